"""Checks of a split of Meta-VQA before training: examples, answers, labels and features of every task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from weightgen.errors import InputError, needs


def check_rows(table: Any, rows: Sequence[int]) -> None:
    """Refuse tasks without examples or answers, and labels that are not numbers of answers.

    Args:
        table: an Arrow table of tasks.
        rows: their numbers in the split, for the error.

    Raises:
        InputError: naming the first such task.
    """
    answers = _lengths(table["answers"])
    _refuse(answers < 1, rows, "has no answers")
    _refuse(_with_null(table["answers"]), rows, "has an answer that is null")
    _refuse_same(table["answers"], rows)
    for name in ("question", "template"):
        _refuse(table[name].is_null().to_numpy(), rows, f"has no {name}")
    _refuse(~_with_place(table["template"]), rows, "has a template without {}")
    for part in ("support", "query"):
        images, labels = table[f"{part}_images"], table[f"{part}_labels"]
        _refuse(_lengths(images) < 1, rows, f"has no {part} examples")
        _refuse(_lengths(images) != _lengths(labels), rows, f"needs one label for each {part} image")
        _check_labels(labels, answers, rows, part)


def check_finite_rows(embeds: Tensor, names: Sequence[str], kind: str) -> None:
    """Refuse features with NaN or infinite numbers.

    Args:
        embeds: features, with shape (N, E).
        names: names of the N rows.
        kind: what the rows are, for the error.

    Raises:
        InputError: naming the first such row.
    """
    wrong = ~embeds.isfinite().all(dim=1)
    if bool(wrong.any()):
        name = names[int(wrong.nonzero()[0])]
        raise InputError(
            f"the features of the {kind} {name!r} hold NaN or infinite numbers: make the features again"
        )


def _with_null(lists: Any) -> np.ndarray[Any, Any]:
    """Which lists hold a null."""
    import pyarrow.compute as pc

    lengths = _lengths(lists)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    found = np.zeros(len(lengths), dtype=bool)
    found[owners[pc.list_flatten(lists).is_null().to_numpy()]] = True
    return found


def _with_place(templates: Any) -> np.ndarray[Any, Any]:
    import pyarrow.compute as pc

    return pc.fill_null(pc.match_substring(templates, "{}"), False).to_numpy()


def _refuse_same(lists: Any, rows: Sequence[int]) -> None:
    for row, answers in zip(rows, lists.to_pylist(), strict=True):
        if len(set(answers)) < len(answers):
            raise InputError(f"task {row} has an answer twice: {answers!r:.80}")


def _lengths(lists: Any) -> np.ndarray[Any, Any]:
    with needs("train"):
        import pyarrow.compute as pc

    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy()


def _refuse(wrong: np.ndarray[Any, Any], rows: Sequence[int], reason: str) -> None:
    if wrong.any():
        raise InputError(f"task {rows[int(wrong.argmax())]} {reason}")


def _check_labels(lists: Any, answers: np.ndarray[Any, Any], rows: Sequence[int], part: str) -> None:
    with needs("train"):
        import pyarrow.compute as pc

    labels = pc.fill_null(pc.list_flatten(lists), -1).to_numpy()
    owners = np.repeat(np.arange(len(rows)), _lengths(lists))
    wrong = (labels < 0) | (labels >= answers[owners])
    if wrong.any():
        place = int(wrong.argmax())
        owner = owners[place]
        raise InputError(
            f"task {rows[owner]} has the {part} label {labels[place]}, expected 0 to {answers[owner] - 1}: "
            "one number for each of its answers"
        )
