"""What an evaluation reads: the splits of a Meta-VQA data set by name, whatever they are, and a pipeline for them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from weightgen.data import load_tasks
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.storage.files import StrPath

Splits = Mapping[str, MetaVQATasks]


def load_splits(
    dataset: str,
    features: str | None = None,
    needs: Sequence[str] = ("validation",),
    train: bool = False,
    questions: bool = False,
) -> dict[str, MetaVQATasks]:
    """Load all splits of a data set, on the CPU, but `validation_…`: those are parts of validation.

    Args:
        dataset: a Meta-VQA folder with features.
        features: the name of the features, where there are several.
        needs: splits that must be there.
        train: whether the training split is wanted too.
        questions: whether every task must have a question.

    Raises:
        InputError: no such data set or features, a split is missing, a task without a question, or no split to score.
    """
    names = list(load_meta_vqa(dataset))
    if missing := [name for name in needs if name not in names]:
        raise InputError(f"{dataset} has no split {missing[0]!r}, but {', '.join(names)}")
    whole = [name for name in names if not name.startswith("validation_") or name in needs]
    wanted = [name for name in whole if train or name != "train"]
    if not set(wanted) - {"train", "validation"}:
        raise InputError(f"{dataset} has no split to score: expected one beside train and validation")
    tasks = load_tasks(dataset, *wanted, features=features, questions=questions)
    return dict(zip(wanted, tasks, strict=True))


def scored_split(splits: Iterable[str]) -> str:
    """The split that figures show: the first one beside train and validation, such as "test" or "held_out_meanings".

    Raises:
        InputError: there is none.
    """
    names = list(splits)
    found = [name for name in names if name not in ("train", "validation")]
    if not found:
        raise InputError(
            f"no split to score among {', '.join(names)}: expected one beside train and validation"
        )
    return found[0]


def load_pipeline(folder: StrPath, tasks: Splits, trust_remote_code: bool = False) -> WeightPipeline:
    """Load a pipeline, to sample for these tasks.

    Raises:
        InputError: no pipeline, one with a class that is not weightgen's, or the features are of another encoder than its own.
    """
    pipe = WeightPipeline.from_pretrained(folder, trust_remote_code=trust_remote_code)
    next(iter(tasks.values())).store.check_encoder(pipe.encoder)
    return pipe


def dataset_digest(dataset: str, features: str | None = None) -> str:
    """What tells a data set with its features from others, however they were computed and stored: 16 hexadecimal digits."""
    # The plan holds digests of the encoder, and of the names of all that it has embedded.
    plan = find_features(dataset, features).plan
    content = json.dumps({key: plan[key] for key in sorted(plan) if key not in ("batch_size", "shard_size")})
    return hashlib.sha256(content.encode()).hexdigest()[:16]
