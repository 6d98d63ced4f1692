"""Answers that are given to a demo on its command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weightgen.errors import InputError
from weightgen.pipelines.inputs import check_answers
from weightgen.pipelines.known_questions import held_out_first


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
    asked = [row["answers"] for row in held_out_first(splits or {}) if row["question"] == prompt]
    known = sorted({answer for some in asked for answer in some})
    if known and not set(known) & set(answers):
        raise InputError(f"{prompt!r} has the answers {', '.join(known)}; got {', '.join(answers)}")
    return answers
