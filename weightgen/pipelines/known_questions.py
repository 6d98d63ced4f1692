"""The questions of a data set with their answers: what may be asked in place of an unknown question, and what to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor
from torch.nn.functional import cosine_similarity

from weightgen.data.features.store import FeatureStore
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.photos.shipped import DATASET, FEATURES
from weightgen.pipelines.familiarity import Familiarity

if TYPE_CHECKING:
    from weightgen.pipelines.weight_pipeline import WeightPipeline


class KnownQuestions(NamedTuple):
    """Rows of Meta-VQA by split, with the features of their questions."""

    splits: Mapping[str, Any]
    store: FeatureStore

    @classmethod
    def shipped(cls, pipe: WeightPipeline) -> KnownQuestions | None:
        """Those of the Photos data set that comes with the package; None where the pipeline has another encoder than their features."""
        store = FeatureStore(DATASET / FEATURES)
        return cls(load_meta_vqa(DATASET), store) if store.encoder_digest == pipe.encoder.digest else None

    def nearest(self, prompt: str, pipe: WeightPipeline) -> dict[str, Any]:
        """The row with the prompt's own question, else with the most similar one; see `nearest_task`."""
        return nearest_task(prompt, self.splits, self.store, pipe.encoder, pipe.familiarity)


def nearest_task(
    prompt: str,
    splits: Mapping[str, Any],
    store: FeatureStore,
    encoder: Any,
    familiarity: Familiarity | None = None,
) -> dict[str, Any]:
    """The task with the prompt's own question, else with the most similar question; held-out ones first.

    Args:
        prompt: a question.
        splits: rows of Meta-VQA by split.
        store: their features.
        encoder: the one that made the features.
        familiarity: compares questions by their topic: an encoder alone may find "what size is the star" nearer to "what color is the star"
            than another question about color. Without it, by the cosine of their embeddings.
    """
    rows = held_out_first(splits)
    questions = [row["question"] for row in rows]
    if prompt in questions:
        return rows[questions.index(prompt)]
    every: Tensor = store.embeds("questions", store.rows("questions", questions)).float()
    mine: Tensor = encoder.encode_questions([prompt]).cpu()
    if familiarity is not None:
        device = familiarity.mean.device
        return rows[int(familiarity.similarity(mine.to(device), every.to(device))[0].argmax())]
    return rows[int(cosine_similarity(every, mine).argmax())]


def held_out_first(splits: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """All rows: those of test splits, then of validation, then of training."""
    order = sorted(splits, key=lambda name: (name == "train", name.startswith("validation")))
    columns = ("question", "answers", "template", "query_images", "query_labels")
    return [row for name in order for row in splits[name].select_columns(list(columns))]
