"""The official VQA v2 download, read into (question, image, answer, answer type) rows.

Two JSON files per COCO split:
questions, `{"data_subtype": "train2014", "questions": [{"question_id", "image_id", "question"}, ...]}`, and
annotations, `{"data_subtype": "train2014", "annotations": [{"question_id", "image_id", "answer_type",
"multiple_choice_answer", "answers": [ten human answers]}, ...]}`.

Source: Goyal et al., "Making the V in VQA Matter" (CVPR 2017); https://visualqa.org/download.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from weightgen.data.meta_vqa.rules import Row
from weightgen.data.meta_vqa.source_files import SourceFile, find_source, read_source, without_mark
from weightgen.errors import InputError, needs

with needs("train"):
    import msgspec

__all__ = ["VqaV2"]

SUBTYPES = ("train2014", "val2014")
NAMES = {"questions": "v2_OpenEnded_mscoco_{}_questions.json", "annotations": "v2_mscoco_{}_annotations.json"}
OTHER = {"questions": "annotations", "annotations": "questions"}
FOLDERS = (".", "Questions", "Annotations")  # where the official tools unpack the files
UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)

ImageId = Annotated[int, msgspec.Meta(ge=0, lt=10**12)]  # twelve digits in the name of the image


# gc=False: hundreds of thousands of small records that refer to nothing need no garbage collection.
class _Question(msgspec.Struct, gc=False):
    question_id: int
    image_id: ImageId
    question: str


class _HumanAnswer(msgspec.Struct, gc=False):
    answer: str


class _Annotation(msgspec.Struct, gc=False):
    question_id: int
    image_id: ImageId
    answer_type: str
    multiple_choice_answer: str
    answers: list[_HumanAnswer] = []  # looked at only to refuse a file in which they are not strings


class _File(msgspec.Struct):
    """Either kind of file, its records not decoded yet: a file given for the other kind can be told."""

    data_subtype: str | None = None
    questions: list[msgspec.Raw] | None = None
    annotations: list[msgspec.Raw] | None = None


R = TypeVar("R", _Question, _Annotation)


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
        for place, question in enumerate(self._records(questions, "questions", _Question, subtype)):
            if asked.setdefault(question.question_id, question) is not question:
                raise InputError(
                    f"{questions}: questions[{place}] repeats question_id {question.question_id}; "
                    "expected every question to have an id of its own"
                )
        answered: set[int] = set()
        for place, record in enumerate(self._records(annotations, "annotations", _Annotation, subtype)):
            question_id, image_id = record.question_id, record.image_id
            known = asked.get(question_id)
            if known is None or known.image_id != image_id or question_id in answered:
                fault = _mismatch(record, known, questions)
                raise InputError(f"{annotations}: annotations[{place}] (question_id {question_id}) {fault}")
            answered.add(question_id)
            image = f"COCO_{subtype}_{image_id:012d}"
            yield Row(known.question, image, record.multiple_choice_answer, record.answer_type)
        if len(answered) < len(asked):
            lost = next(question_id for question_id in asked if question_id not in answered)
            raise InputError(
                f"{questions}: question_id {lost} has no annotation in {annotations}; expected one for every "
                f"question, got {len(asked)} questions and {len(answered)} annotations"
            )

    def _records(self, source: SourceFile, key: str, kind: type[R], subtype: str) -> Iterator[R]:
        """Decode a file record by record: only the fields that are needed, one record in memory at a time."""
        data, description = read_source(source, self.progress)
        records = _split(data, source, key, subtype)
        self.sources.append(description)
        decode = msgspec.json.Decoder(kind).decode
        for place, record in enumerate(records):
            try:
                yield decode(record)
            except UNREADABLE as error:
                raise InputError(
                    f"{source}: {key}[{place}]: {error}; expected the VQA v2 {key} format"
                ) from error


def _find(folder: Path, subtype: str) -> tuple[SourceFile, SourceFile]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the one with the VQA v2 files")
    if subtype.startswith("test"):
        raise InputError(
            f"the {subtype} questions of VQA v2 have no annotations, so no tasks can be made of them; "
            f"use {' and '.join(SUBTYPES)}"
        )
    questions, annotations = (_find_file(folder, name.format(subtype)) for name in NAMES.values())
    return questions, annotations


def _find_file(folder: Path, name: str) -> SourceFile:
    folders = [folder / sub for sub in FOLDERS]
    source = find_source(folders, name)
    if source is None:
        unanswered = find_source(folders, NAMES["questions"].format("test2015"))
        hint = "; the test2015 questions, which are there, have no annotations" if unanswered else ""
        raise InputError(f"{folder}: found no {name}, nor {name}.gz, nor a zip that holds it{hint}")
    return source


def _split(data: bytes | bytearray, source: SourceFile, key: str, subtype: str) -> list[msgspec.Raw]:
    """The undecoded records of a file, once it has proved to be the file it is named for."""
    expected = f"expected the VQA v2 {key} of {subtype}"
    try:
        file = msgspec.json.decode(without_mark(data), type=_File)
    except UNREADABLE as error:
        hint = "" if isinstance(error, msgspec.ValidationError) else " (is it cut off, or not JSON?)"
        raise InputError(f"{source}: {error}; {expected}{hint}") from error
    records, others = file.questions, file.annotations
    if key == "annotations":
        records, others = others, records
    if records is None:
        found = f"a JSON object without {key!r}" if others is None else f"a file of {OTHER[key]}"
        raise InputError(f"{source}: {expected}, got {found}")
    if file.data_subtype != subtype:
        hint = ", whose questions have no annotations" if str(file.data_subtype).startswith("test") else ""
        raise InputError(f"{source}: {expected}, got data_subtype {file.data_subtype!r}{hint}")
    return records


def _mismatch(record: _Annotation, known: _Question | None, questions: SourceFile) -> str:
    """Why an annotation does not fit the questions."""
    if known is None:
        return f"answers a question that is not in {questions}; expected one of those"
    if known.image_id != record.image_id:
        return f"is about image {record.image_id}; expected image {known.image_id}, as {questions} says"
    return "annotates this question for the second time; expected one annotation per question"
