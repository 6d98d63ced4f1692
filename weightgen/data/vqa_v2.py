"""The official VQA v2 download, read into (question, image, answer, answer type) rows.

Two JSON files per COCO split: questions, `{"data_subtype": "train2014", "questions": [{"question_id",
"image_id", "question"}]}`, and annotations, `{"data_subtype", "annotations": [{"question_id", "image_id",
"answer_type", "multiple_choice_answer", "answers": [ten human answers]}]}`.

Source: Goyal et al., "Making the V in VQA Matter" (CVPR 2017); https://visualqa.org/download.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from weightgen.data.meta_vqa_rules import Row
from weightgen.data.source_files import SourceFile, find_source, read_source
from weightgen.errors import InputError

__all__ = ["VqaV2"]

SUBTYPES = ("train2014", "val2014")
QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS = "v2_mscoco_{}_annotations.json"
FOLDERS = (".", "Questions", "Annotations")  # where the official tools unpack the files

ImageId = Annotated[int, msgspec.Meta(ge=0, lt=10**12)]  # twelve digits in the name of the image


# gc=False: hundreds of thousands of small records that refer to nothing need no garbage collection.
class _Question(msgspec.Struct, gc=False):
    question_id: int
    image_id: ImageId
    question: str


class _Annotation(msgspec.Struct, gc=False):
    question_id: int
    image_id: ImageId
    answer_type: str
    multiple_choice_answer: str


class _Questions(msgspec.Struct):
    data_subtype: str
    questions: list[_Question]


class _Annotations(msgspec.Struct):
    data_subtype: str
    annotations: list[_Annotation]


F = TypeVar("F", _Questions, _Annotations)


class VqaV2:
    """The rows of a VQA v2 folder, in the official order: each file's own, train2014 before val2014.

    Args:
        folder: holds the files as `.json`, `.json.gz` or inside the official `.zip` files.
        subtypes: which COCO splits to read, in this order.
        progress: whether to show a bar per file.
    """

    def __init__(
        self, folder: str | Path, subtypes: tuple[str, ...] = SUBTYPES, progress: bool = False
    ) -> None:
        self.progress = progress
        self.sources: list[dict[str, str | int]] = []
        """Name, size and checksum of each file, known once the rows have been read."""
        self.files = [(subtype, *_find(Path(folder), subtype)) for subtype in subtypes]

    def __iter__(self) -> Iterator[Row]:
        self.sources = []
        for files in self.files:
            yield from self._rows(*files)

    def _rows(self, subtype: str, questions: SourceFile, annotations: SourceFile) -> Iterator[Row]:
        asked: dict[int, _Question] = {}
        for place, question in enumerate(self._read(questions, _Questions, subtype).questions):
            if asked.setdefault(question.question_id, question) is not question:
                raise InputError(
                    f"{questions}: questions[{place}] repeats question_id {question.question_id}; "
                    "expected every question to have an id of its own"
                )
        answered: set[int] = set()
        for place, annotation in enumerate(self._read(annotations, _Annotations, subtype).annotations):
            known = asked.get(annotation.question_id)
            if known is None or known.image_id != annotation.image_id or annotation.question_id in answered:
                raise InputError(
                    f"{annotations}: annotations[{place}] {_mismatch(annotation, known, questions)}"
                )
            answered.add(annotation.question_id)
            image = f"COCO_{subtype}_{annotation.image_id:012d}"
            yield Row(known.question, image, annotation.multiple_choice_answer, annotation.answer_type)
        if len(answered) < len(asked):
            lost = next(question_id for question_id in asked if question_id not in answered)
            raise InputError(
                f"{questions}: question_id {lost} has no annotation in {annotations}; expected one for "
                f"every question ({len(asked)} questions, {len(answered)} annotations)"
            )

    def _read(self, source: SourceFile, kind: type[F], subtype: str) -> F:
        data, description = read_source(source, self.progress)
        content = _decoded(data, source, kind)
        if content.data_subtype != subtype:
            raise InputError(
                f"{source}: expected data_subtype {subtype!r}, as its name says, got {content.data_subtype!r}"
            )
        self.sources.append(description)
        return content


def _find(folder: Path, subtype: str) -> tuple[SourceFile, SourceFile]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the one with the VQA v2 files")
    if subtype.startswith("test"):
        raise InputError(
            f"the {subtype} questions of VQA v2 have no annotations, so no tasks can be made of them; "
            f"use {' and '.join(SUBTYPES)}"
        )
    found = []
    for name in (QUESTIONS.format(subtype), ANNOTATIONS.format(subtype)):
        source = find_source([folder / sub for sub in FOLDERS], name)
        if source is None:
            test = find_source([folder], QUESTIONS.format("test2015"))
            hint = "; the test2015 questions that are there have no annotations" if test else ""
            raise InputError(f"{folder}: found no {name}, nor {name}.gz, nor a zip that holds it{hint}")
        found.append(source)
    return found[0], found[1]


def _decoded(data: bytes, source: SourceFile, kind: type[F]) -> F:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise InputError(f"{source}: {_fault(data, kind, error)}") from error


def _fault(data: bytes, kind: type[F], error: Exception) -> str:
    """What is wrong with a file that did not decode."""
    expected = "questions" if kind is _Questions else "annotations"
    other = "annotations" if kind is _Questions else "questions"
    try:
        content: Any = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return f"not a whole JSON object, {error}; expected the official VQA v2 {expected} file"
    if expected not in content and other in content:
        return f"expected VQA v2 {expected}, got a file of {other}"
    if expected not in content:
        return f"expected VQA v2 {expected}, got a JSON object without {expected!r}"
    return f"{error}; expected the official VQA v2 {expected} format"


def _mismatch(annotation: _Annotation, known: _Question | None, questions: SourceFile) -> str:
    """Why an annotation does not fit the questions."""
    name = f"(question_id {annotation.question_id})"
    if known is None:
        return f"{name} answers a question that is not in {questions}"
    if known.image_id != annotation.image_id:
        return (
            f"{name} is about image {annotation.image_id}, but {questions} asks about image {known.image_id}"
        )
    return f"{name} annotates a question for the second time; expected one annotation per question"
