"""What a demo knows about a prompt: the nearest question of its data set, and answers to choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity

from weightgen.data.features.store import FeatureStore
from weightgen.errors import InputError
from weightgen.pipelines.familiarity import Familiarity
from weightgen.pipelines.inputs import check_answers


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
    rows = _held_out_first(splits)
    questions = [row["question"] for row in rows]
    if prompt in questions:
        return rows[questions.index(prompt)]
    every: Tensor = store.embeds("questions", store.rows("questions", questions)).float()
    mine: Tensor = encoder.encode_questions([prompt]).cpu()
    if familiarity is not None:
        return rows[int(familiarity.cpu().similarity(mine, every)[0].argmax())]
    return rows[int(cosine_similarity(every, mine).argmax())]


def given_answers(text: str | None, prompt: str, splits: Mapping[str, Any] | None = None) -> list[str] | None:
    """The answers on a command line, "yes,no", as a list; None where there are none.

    Args:
        text: the answers with commas between.
        prompt: their question.
        splits: rows of Meta-VQA by split: a question that is there must have one of the answers at least.

    Raises:
        InputError: fewer than two answers, one twice, or none that a known question has.
    """
    if text is None:
        return None
    (answers,) = check_answers([answer.strip() for answer in text.split(",")], 1)
    asked = [row["answers"] for row in _held_out_first(splits or {}) if row["question"] == prompt]
    known = sorted({answer for some in asked for answer in some})
    if known and not set(known) & set(answers):
        raise InputError(f"{prompt!r} has the answers {', '.join(known)}; got {', '.join(answers)}")
    return answers


def _held_out_first(splits: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    order = sorted(splits, key=lambda name: (name == "train", name.startswith("validation")))
    columns = ("question", "answers", "template", "query_images", "query_labels")
    return [row for name in order for row in splits[name].select_columns(list(columns))]
