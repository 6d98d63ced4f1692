"""The rules of Meta-VQA, which turn (question, image, answer) rows into few-shot tasks; no file in sight.

One task is one question. Its answers are the classes, its images the examples, and the question itself is the
description from which a hypernetwork has to guess the classifier.

Source: Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance" (TMLR 2023), section
5.1, and the authors' released split, which these rules reproduce row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import NamedTuple, TypeVar

from weightgen.data.meta_vqa.image_parts import images_of_part
from weightgen.data.meta_vqa.templates import make_template
from weightgen.errors import InputError

__all__ = ["Row", "Rules", "Task", "build_meta_vqa", "merge_validation", "split_validation"]

T = TypeVar("T")


class Row(NamedTuple):
    """One answered question about one image; a plain tuple of the first three does as well."""

    question: str
    image: str
    answer: str
    answer_type: str | None = None  # None: the source knows no types, the row passes the type rule
    meaning: str | None = None  # what the question asks, if others ask the same in other words


@dataclass(frozen=True)
class Task:
    """A question with its answers (the classes) and its labelled images; `labels` index `answers`.

    `meaning` is the same for questions that ask the same in other words, and empty where the source knows no meanings.
    """

    question: str
    answers: list[str]
    support_images: list[str]
    support_labels: list[int]
    query_images: list[str]
    query_labels: list[int]
    template: str
    meaning: str = ""


@dataclass(frozen=True)
class Rules:
    """What makes a task, with the authors' values as defaults.

    Args:
        min_examples: fewest images that a question keeps. The paper says "at least 20"; the released split,
            which this default reproduces, asks for more than 20.
        min_per_answer: an answer given to fewer images of the question is dropped, with those images.
        min_answers: fewest answers that a question keeps.
        support_fraction: share of each answer's images that goes to the support set; the rest is the query
            set.
        task_fraction: share of the tasks that goes to training; the rest is the test split.
        validation_fraction: share of the *training* tasks that is held out for choosing models. Not in the
            paper, which has two splits: 0 gives those.
        seed: of the shuffles within answers, over tasks, and of the choice of validation tasks.
        excluded_words: questions with one of these words are dropped ("Is it red or blue?" names its own
            answers).
        answer_types: VQA v2 answer types that are kept.
        split_images: whether images are split before questions (the paper's are not): each image belongs to one of
            train, validation and test, in the proportions of the tasks, and tasks keep the images of their own split.
    """

    min_examples: int = 21
    min_per_answer: int = 2
    min_answers: int = 2
    support_fraction: float = 0.7
    task_fraction: float = 0.7
    validation_fraction: float = 0.1
    seed: int = 2021
    excluded_words: tuple[str, ...] = ("or",)
    answer_types: tuple[str, ...] = ("number", "other")
    split_images: bool = False

    def __post_init__(self) -> None:
        for name, least in (("min_examples", 2), ("min_per_answer", 2), ("min_answers", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if type(self.seed) is not int:
            raise InputError(f"seed must be a whole number, got {self.seed!r}")
        for name in ("support_fraction", "task_fraction", "validation_fraction"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise InputError(f"{name} must be a number from 0 to 1, got {value!r}")
        if not 0 < self.support_fraction < 1:
            raise InputError(f"support_fraction must lie between 0 and 1, got {self.support_fraction!r}")
        for name in ("excluded_words", "answer_types"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(item, str) for item in value):
                raise InputError(f"{name} must be a tuple of strings, got {value!r}; write ({value!r},)")
            object.__setattr__(self, name, tuple(value))


DEFAULTS = Rules()


def build_meta_vqa(
    rows: Iterable[tuple[str, ...]],
    rules: Rules = DEFAULTS,
    template_of: Callable[[str], str] = make_template,
) -> dict[str, list[Task]]:
    """Group rows by question, filter, and split them into tasks.

    Args:
        rows: (question, image, answer), then answer_type and meaning if they are known; order decides which answer
            of an image wins, the order of answers, and what the shuffles start from.
        rules: see `Rules`.
        template_of: gives a question's declarative template, a text with one `{}` for the answer.

    Returns:
        The splits train, validation and test; without "validation" where its fraction is 0. Questions with one meaning are in one
        split; a question without a meaning counts as a meaning of its own.

    Raises:
        InputError: if a row is not one, or no question passes the rules.
    """
    kept: dict[str, dict[str, list[str]]] = {}
    answers_by_question, meaning_of = _first_answers(rows, rules)
    for question, answer_of_image in answers_by_question.items():
        if len(answer_of_image) >= rules.min_examples:  # most questions are asked only once or twice
            images_of_answer = _frequent_answers(answer_of_image, rules)
            if _is_task(images_of_answer, rules):
                kept[question] = images_of_answer
    if not kept:
        most = max(map(len, answers_by_question.values()), default=0)
        raise InputError(
            f"no question became a task: of {len(answers_by_question)} questions with admitted answers, the "
            f"one asked most has {most} images, rare answers included; lower min_examples "
            f"({rules.min_examples}), min_per_answer ({rules.min_per_answer}) or "
            f"min_answers ({rules.min_answers})"
        )
    questions = list(kept)
    Random(rules.seed).shuffle(questions)
    meanings = list(dict.fromkeys(meaning_of.get(question, question) for question in questions))
    cut = round(rules.task_fraction * len(meanings))
    train, validation = split_validation(meanings[:cut], rules.validation_fraction, rules.seed)
    parts = {"train": train, "validation": validation, "test": meanings[cut:]}
    split_of = {meaning: name for name, part in parts.items() for meaning in part}
    splits: dict[str, list[Task]] = {name: [] for name in parts}
    for question in questions:
        meaning = meaning_of.get(question, "")
        split = split_of[meaning or question]
        images = _of_split(kept[question], split, rules) if rules.split_images else kept[question]
        if images:
            task = _task(question, images, rules, template_of(question))
            splits[split].append(replace(task, meaning=meaning))
    if not any(splits.values()):
        raise InputError(
            f"split_images left no task with {rules.min_examples} images of its own split; lower min_examples, or write "
            "split_images=false"
        )
    if rules.validation_fraction == 0:
        del splits["validation"]
    return splits


def split_validation(train: Sequence[T], fraction: float, seed: int) -> tuple[list[T], list[T]]:
    """Take a seeded slice out of the training tasks; both parts keep their order."""
    held_out = _held_out(len(train), round(fraction * len(train)), seed)
    left = [task for i, task in enumerate(train) if i not in held_out]
    return left, [train[i] for i in sorted(held_out)]


def merge_validation(train: Sequence[T], validation: Sequence[T], seed: int) -> list[T]:
    """Undo `split_validation`: every task returns to its place."""
    total = len(train) + len(validation)
    held_out = _held_out(total, len(validation), seed)
    left, taken = iter(train), iter(validation)
    return [next(taken) if i in held_out else next(left) for i in range(total)]


def _held_out(total: int, count: int, seed: int) -> set[int]:
    return set(Random(seed).sample(range(total), count))


def _first_answers(
    rows: Iterable[tuple[str, ...]], rules: Rules
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The admitted rows as question -> image -> answer, where the first answer for an image wins; and question -> meaning."""
    questions: dict[str, dict[str, str]] = {}
    meanings: dict[str, str] = {}
    excluded: set[str] = set()
    words, types = frozenset(rules.excluded_words), frozenset(rules.answer_types)
    for position, row in enumerate(rows):
        question, image, answer, answer_type, meaning = row if type(row) is Row else _checked(row, position)
        if answer_type is not None and answer_type not in types:
            continue
        answer_of_image = questions.get(question)
        if answer_of_image is not None:
            answer_of_image.setdefault(image, answer)
        elif question not in excluded:
            if words.isdisjoint(question.split()):
                questions[question] = {image: answer}
                if meaning:
                    meanings[question] = meaning
            else:
                excluded.add(question)
    return questions, meanings


def _checked(row: tuple[str, ...], position: int) -> Row:
    if (
        not isinstance(row, tuple | list)
        or len(row) not in (3, 4, 5)
        or not all(isinstance(value, str) for value in row[:3])
    ):
        raise InputError(
            f"row {position}: expected (question, image, answer), three strings, got {row!r:.200}"
        )
    return Row(*row)


def _frequent_answers(answer_of_image: dict[str, str], rules: Rules) -> dict[str, list[str]]:
    """Answer -> its images, both in first-seen order, without the answers that are too rare."""
    counts = Counter(answer_of_image.values())
    images_of_answer: dict[str, list[str]] = {}
    for image, answer in answer_of_image.items():
        if counts[answer] >= rules.min_per_answer:
            images_of_answer.setdefault(answer, []).append(image)
    return images_of_answer


def _is_task(images_of_answer: dict[str, list[str]], rules: Rules) -> bool:
    size = sum(map(len, images_of_answer.values()))
    return size >= rules.min_examples and len(images_of_answer) >= rules.min_answers


def _of_split(images_of_answer: dict[str, list[str]], split: str, rules: Rules) -> dict[str, list[str]]:
    """What a question keeps of its images, all of one split; nothing where that is too little for a task."""
    shares = (rules.task_fraction, rules.validation_fraction, rules.seed)
    own = images_of_part(images_of_answer, split, *shares)
    own = {answer: images for answer, images in own.items() if len(images) >= rules.min_per_answer}
    return own if _is_task(own, rules) else {}


def _task(question: str, images_of_answer: dict[str, list[str]], rules: Rules, template: str) -> Task:
    """Shuffle each answer's images and cut them into support and query, answer by answer."""
    support: list[tuple[str, int]] = []
    query: list[tuple[str, int]] = []
    for label, images in enumerate(images_of_answer.values()):
        order = _shuffled(len(images), rules.seed)
        cut = round(rules.support_fraction * len(images))  # round half to even, as the authors' Python did
        support += [(images[i], label) for i in order[:cut]]
        query += [(images[i], label) for i in order[cut:]]
    if not support or not query:
        raise InputError(
            f"support_fraction {rules.support_fraction} leaves {question!r} without "
            f"{'query' if support else 'support'} images; choose one nearer to 0.5"
        )
    return Task(
        question=question,
        answers=list(images_of_answer),
        support_images=[image for image, _ in support],
        support_labels=[label for _, label in support],
        query_images=[image for image, _ in query],
        query_labels=[label for _, label in query],
        template=template,
    )


@lru_cache(
    maxsize=1024
)  # a shuffle with a given seed depends on the length alone, and few lengths are frequent
def _shuffled(count: int, seed: int) -> tuple[int, ...]:
    order = list(range(count))
    Random(seed).shuffle(order)
    return tuple(order)
