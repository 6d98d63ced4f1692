"""The authors' own file format for Meta-VQA: read their released split, or write ours for their code.

`meta_train.json` and `meta_test.json` are objects question -> {"train": [[image, answer], ...], "test":
[...],
"answers": [...]}, where "train" and "test" inside a task are its support and query sets.

Source: the data folder of the code released with Nava, Kobayashi et al. (TMLR 2023).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from weightgen.data.meta_vqa.rules import Task, merge_validation, split_validation
from weightgen.data.meta_vqa.source_files import SourceFile, read_source, without_mark
from weightgen.data.meta_vqa.templates import make_template
from weightgen.errors import InputError, needs
from weightgen.storage.files import written_beside

with needs("train"):
    import msgspec

__all__ = ["export_release", "read_release"]


class _Released(msgspec.Struct):
    train: list[tuple[str, str]]
    test: list[tuple[str, str]]
    answers: list[str]


def read_release(
    train: str | Path,
    test: str | Path,
    validation_fraction: float = 0.1,
    seed: int = 2021,
    template_of: Callable[[str], str] = make_template,
) -> tuple[dict[str, list[Task]], list[dict[str, str | int]]]:
    """Read a split in the authors' format, plain or gzipped.

    Args:
        train: `meta_train.json`.
        test: `meta_test.json`.
        validation_fraction: share of the training tasks that is held out; 0 leaves the authors' two splits.
        seed: of the choice of validation tasks.
        template_of: gives a question's declarative template.

    Returns:
        the splits, and name, size and checksum of each file.

    Raises:
        InputError: if a file is broken or of another format, or both files have a question.
    """
    train_tasks, train_source = _read(Path(train), template_of)
    test_tasks, test_source = _read(Path(test), template_of)
    shared = {task.question for task in train_tasks} & {task.question for task in test_tasks}
    if shared:
        raise InputError(f"{test}: question {min(shared)!r} is in {train} too; expected each in one split")
    kept, held_out = split_validation(train_tasks, validation_fraction, seed)
    splits = {"train": kept, "validation": held_out, "test": test_tasks}
    if validation_fraction == 0:
        del splits["validation"]
    return splits, [train_source, test_source]


def _read(path: Path, template_of: Callable[[str], str]) -> tuple[list[Task], dict[str, str | int]]:
    data, source = read_source(SourceFile(path))
    try:
        released = msgspec.json.decode(without_mark(data), type=dict[str, _Released])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(
            f'{path}: {error}; expected {{question: {{"train": [[image, answer], ...], "test": [...], '
            f'"answers": [...]}}}}'
        ) from error
    return [_task(question, task, template_of, path) for question, task in released.items()], source


def _task(question: str, released: _Released, template_of: Callable[[str], str], path: Path) -> Task:
    label_of = {answer: label for label, answer in enumerate(released.answers)}
    used = {answer for _, answer in (*released.train, *released.test)}
    if len(label_of) < len(released.answers) or used != set(label_of):
        raise InputError(
            f"{path}: question {question!r}: expected 'answers' to name each answer of its pairs once"
        )
    if not released.train or not released.test:
        raise InputError(f"{path}: question {question!r}: expected pairs in both 'train' and 'test'")
    return Task(
        question=question,
        answers=released.answers,
        support_images=[image for image, _ in released.train],
        support_labels=[label_of[answer] for _, answer in released.train],
        query_images=[image for image, _ in released.test],
        query_labels=[label_of[answer] for _, answer in released.test],
        template=template_of(question),
    )


def export_release(
    splits: Mapping[str, Sequence[Task]], folder: str | Path, seed: int = 2021, overwrite: bool = False
) -> None:
    """Write `meta_<split>.json` for each split; validation tasks return to their places in training.

    Args:
        splits: tasks by split name.
        folder: the folder to make.
        seed: with which the validation tasks were chosen.
        overwrite: whether an existing folder may be replaced.

    Raises:
        InputError: if the folder exists.
    """
    merged = {name: list(tasks) for name, tasks in splits.items() if name != "validation"}
    if splits.get("validation"):
        merged["train"] = merge_validation(splits["train"], splits["validation"], seed)
    folder = Path(folder)
    if overwrite and folder.is_dir() and any(not path.match("meta_*.json") for path in folder.iterdir()):
        raise InputError(
            f"{folder} holds more than an earlier export: it will not be overwritten, choose another"
        )
    try:
        with written_beside(folder, overwrite) as partial:
            partial.mkdir()
            for name, tasks in merged.items():
                content = {task.question: _released(task) for task in tasks}
                (partial / f"meta_{name}.json").write_text(json.dumps(content), encoding="ascii")
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error}") from error


def _released(task: Task) -> dict[str, list[list[str]] | list[str]]:
    support = zip(task.support_images, task.support_labels, strict=True)
    query = zip(task.query_images, task.query_labels, strict=True)
    return {
        "train": [[image, task.answers[label]] for image, label in support],
        "test": [[image, task.answers[label]] for image, label in query],
        "answers": list(task.answers),
    }
