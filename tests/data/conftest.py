"""Small files in the official VQA v2 format."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS = "v2_mscoco_{}_annotations.json"

Contents = dict[str, dict[str, Any]]


def vqa_v2_contents(**rows_of_subtype: Iterable[tuple[str, int, str, str]]) -> Contents:
    """File name -> content, from (question, image id, answer, answer type) rows of each subtype."""
    contents: Contents = {}
    for subtype, rows in rows_of_subtype.items():
        head = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "license": {}}
        questions, annotations = [], []
        for i, (question, image_id, answer, answer_type) in enumerate(rows):
            ids = {"image_id": image_id, "question_id": 458752000 + i}
            questions.append({**ids, "question": question})
            answers = [{"answer": answer, "answer_confidence": "yes", "answer_id": n} for n in range(1, 11)]
            annotations.append(
                {
                    "question_type": "none of the above",
                    "multiple_choice_answer": answer,
                    "answers": answers,
                    "answer_type": answer_type,
                    **ids,
                }
            )
        contents[QUESTIONS.format(subtype)] = {**head, "data_subtype": subtype, "questions": questions}
        contents[ANNOTATIONS.format(subtype)] = {**head, "data_subtype": subtype, "annotations": annotations}
    return contents


def write_contents(folder: Path, contents: Contents) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def vqa_contents() -> Callable[..., Contents]:
    """`vqa_v2_contents`, for tests that spoil the content before it is written."""
    return vqa_v2_contents


@pytest.fixture
def write_vqa() -> Callable[[Path, Contents], Path]:
    """Write the content as a VQA v2 folder."""
    return write_contents


@pytest.fixture
def two_tasks() -> Contents:
    """Ten questions on colors and ten on counts become one task each under `min_examples=10`."""
    colors = [("What color is it?", i, ("red", "blue")[i % 2], "other") for i in range(10)]
    counts = [("How many?", i, "123"[i % 3], "number") for i in range(12)]
    return vqa_v2_contents(train2014=colors[:6] + counts[:5], val2014=colors[6:] + counts[5:])
