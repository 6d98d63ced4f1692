"""Which question is asked in which split: four kinds of held-out tasks, and validation tasks of three kinds.

| split              | what is new in it                                                                       |
|--------------------|-----------------------------------------------------------------------------------------|
| random_questions   | the words of the question; training asks the same meaning in other words                |
| novel_compositions | the attribute is never asked of the group in training, though both are known            |
| unseen_classes     | the classes on the photos: 20 that no training task and no alignment has seen           |
| novel_attributes   | the attribute                                                                           |

`validation_…` of the first three kinds choose settings; their unseen classes are ten others. `validation` is their
union, for recipes that want one split. All photos of a split are new to training as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from weightgen.data.photos.knowledge import CLASSES, Knowledge, Meaning
from weightgen.errors import InputError

__all__ = ["NOVEL_ATTRIBUTES", "UNSEEN", "VALIDATION_UNSEEN", "Asked", "Plan", "plan_splits", "seen_classes"]

# One class of each of the 20 superclasses, drawn at random once; then one of ten superclasses for validation.
UNSEEN = tuple(
    "aquarium_fish bear can cattle chair cockroach dinosaur fox house keyboard mountain mushroom otter palm_tree "
    "pickup_truck poppy shrew spider tank woman".split()
)
VALIDATION_UNSEEN = tuple("bed boy kangaroo lion orchid ray sea sweet_pepper tractor train".split())
# Ten of the attributes that at least four groups have, drawn at random once.
NOVEL_ATTRIBUTES = tuple(
    "alive breathes_water clothes color holds_liquid metal milk movement petals public_transport".split()
)


class Asked(NamedTuple):
    """A question to make a task of: its words, its meaning, and the classes of each answer."""

    question: str
    meaning: Meaning
    classes: dict[str, list[str]]


@dataclass(frozen=True)
class Plan:
    """How many questions there are of each kind.

    Args:
        train_questions: wordings of each training meaning.
        test_questions: of each meaning of the other kinds, and of each third training meaning in
            random_questions.
        novel_share: share of the meanings that become novel compositions for testing.
        validation_share: likewise for validation.
        seed: of all choices.
    """

    train_questions: int = 4
    test_questions: int = 2
    novel_share: float = 0.15
    validation_share: float = 0.08
    seed: int = 2023

    def __post_init__(self) -> None:
        if min(self.train_questions, self.test_questions) < 1:
            raise InputError("train_questions and test_questions must be at least 1")
        if not 0 < self.novel_share + self.validation_share < 1:
            raise InputError("novel_share and validation_share must leave some meanings for training")


DEFAULTS = Plan()


def seen_classes() -> list[str]:
    """The 70 classes of the training tasks, in the order of their labels."""
    return [name for name in CLASSES if name not in UNSEEN + VALIDATION_UNSEEN]


def plan_splits(knowledge: Knowledge, plan: Plan = DEFAULTS) -> dict[str, list[Asked]]:
    """Choose the questions of every split.

    Raises:
        InputError: a novel attribute that the table does not have.
    """
    missing = set(NOVEL_ATTRIBUTES) - set(knowledge.attributes)
    if missing:
        raise InputError(f"the table has no attribute {min(missing)!r}, which the novel attributes name")
    train, novel, validation = _meanings(knowledge, plan)
    random = Random(plan.seed)
    wordings = {each: _shuffled(knowledge.questions(each), random) for each in knowledge.meanings()}
    seen, used = seen_classes(), plan.train_questions
    unknown = [each for each in wordings if each.attribute in NOVEL_ATTRIBUTES]

    def asked(meanings: Sequence[Meaning], classes: Sequence[str], start: int, count: int) -> list[Asked]:
        found = [(each, knowledge.answers(each, classes)) for each in meanings]
        fit = [(each, answers) for each, answers in found if _is_task(answers)]
        return [
            Asked(question, each, answers)
            for each, answers in fit
            for question in wordings[each][start : start + count]
        ]

    few = plan.test_questions
    splits = {
        "train": asked(train, seen, 0, used),
        "random_questions": asked(train[::3], seen, used, few),
        "novel_compositions": asked(novel, seen, 0, few),
        "unseen_classes": asked(train[::2], UNSEEN, used, few),
        "novel_attributes": asked(unknown, seen, 0, few),
        "validation_random_questions": asked(train[1::6], seen, used, few),
        "validation_novel_compositions": asked(validation, seen, 0, few),
        "validation_unseen_classes": asked(train[1::2], VALIDATION_UNSEEN, used, few),
    }
    parts = [name for name in splits if name.startswith("validation_")]
    union = [each for name in parts for each in splits[name]]
    return {"train": splits.pop("train"), "validation": union, **splits}


def _meanings(knowledge: Knowledge, plan: Plan) -> tuple[list[Meaning], list[Meaning], list[Meaning]]:
    """Meanings for training, novel compositions, and those for validation; all of known attributes."""
    seen = seen_classes()
    known = [each for each in knowledge.meanings() if each.attribute not in NOVEL_ATTRIBUTES]
    known = [each for each in known if _is_task(knowledge.answers(each, seen))]
    order = _shuffled(known, Random(plan.seed))
    cut = round(plan.novel_share * len(order))
    end = cut + round(plan.validation_share * len(order))
    held, train = order[:end], order[end:]
    attributes, groups = {each.attribute for each in train}, {each.group for each in train}
    learned = {_signature(knowledge, each, seen) for each in train}

    def is_novel(meaning: Meaning) -> bool:
        # Two groups may have the same classes with an answer: then it is no other question.
        parts_known = meaning.attribute in attributes and meaning.group in groups
        return parts_known and _signature(knowledge, meaning, seen) not in learned

    novel = [each for each in held[:cut] if is_novel(each)]
    return train, novel, [each for each in held[cut:] if is_novel(each)]


def _signature(knowledge: Knowledge, meaning: Meaning, classes: Sequence[str]) -> str:
    return repr((meaning.attribute, knowledge.answers(meaning, classes)))


def _is_task(answers: dict[str, list[str]]) -> bool:
    return len(answers) >= 2 and sum(map(len, answers.values())) >= 3


def _shuffled(items: Sequence, random: Random) -> list:  # type: ignore[type-arg]
    return random.sample(list(items), len(items))
