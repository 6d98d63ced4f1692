"""What is known of the 100 classes of CIFAR-100, read from `knowledge.json`.

The table has groups (animal, vehicle, …), each with its nouns and classes, and attributes (covering, legs, …),
each with wordings of its question and, per answer, the classes that it is true of. A class of which an answer
would be debatable is left out of the attribute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from weightgen.errors import InputError, needs

with needs("train"):
    import msgspec

__all__ = ["CLASSES", "Attribute", "Group", "Knowledge", "Meaning", "load_knowledge"]

CLASSES = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal "
    "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm".split()
)
"""The fine classes in the order of their labels."""


class Meaning(NamedTuple):
    """What a question asks, whatever its words: an attribute of a group of classes."""

    attribute: str
    group: str


@dataclass(frozen=True)
class Group:
    """Classes with a common name; `nouns` are its names in questions."""

    nouns: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """What can be asked: `questions` have one `{g}` for the noun, `answers` map an answer to its classes."""

    questions: tuple[str, ...]
    answers: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Knowledge:
    """The table.

    Args:
        groups: by name.
        attributes: by name.

    Raises:
        InputError: an unknown class, a class with two answers, fewer than two answers, or a wording without
            its one `{g}`.
    """

    groups: Mapping[str, Group]
    attributes: Mapping[str, Attribute]

    def __post_init__(self) -> None:
        for name, group in self.groups.items():
            _check_classes(f"group {name!r}", group.classes)
            if not group.nouns:
                raise InputError(f"group {name!r} has no noun; write at least one")
        for name, attribute in self.attributes.items():
            where = f"attribute {name!r}"
            _check_classes(where, [each for classes in attribute.answers.values() for each in classes])
            if len(attribute.answers) < 2:
                raise InputError(f"{where} has {len(attribute.answers)} answers; expected at least 2")
            for question in attribute.questions:
                if question.count("{g}") != 1 or not question.endswith("?"):
                    raise InputError(f"{where}: expected one {{g}} and a final ?, got {question!r}")

    def answers(self, meaning: Meaning, classes: Iterable[str] = CLASSES) -> dict[str, list[str]]:
        """The answers that a meaning has among some classes, each with its classes, in the table's order."""
        members = set(self.groups[meaning.group].classes) & set(classes)
        parts = self.attributes[meaning.attribute].answers.items()
        found = {answer: [name for name in known if name in members] for answer, known in parts}
        return {answer: names for answer, names in found.items() if names}

    def meanings(self, min_classes: int = 3, min_share: float = 0.5) -> list[Meaning]:
        """All (attribute, group) worth asking about, in the table's order.

        Args:
            min_classes: fewest classes with an answer.
            min_share: fewest of the group's classes that must have an answer: a question about things must
                make sense of most things.
        """
        kept = []
        for attribute in self.attributes:
            for name, group in self.groups.items():
                answers = self.answers(Meaning(attribute, name))
                known = sum(map(len, answers.values()))
                if len(answers) >= 2 and known >= max(min_classes, min_share * len(group.classes)):
                    kept.append(Meaning(attribute, name))
        return kept

    def questions(self, meaning: Meaning) -> list[str]:
        """All wordings of a meaning."""
        nouns, wordings = self.groups[meaning.group].nouns, self.attributes[meaning.attribute].questions
        return [wording.replace("{g}", noun) for noun in nouns for wording in wordings]


def _check_classes(where: str, classes: Iterable[str]) -> None:
    for name, count in Counter(classes).items():
        if name not in CLASSES:
            raise InputError(f"{where}: class {name!r} is not one of CIFAR-100's 100 fine classes")
        if count > 1:
            raise InputError(f"{where}: class {name!r} is named {count} times; expected at most once")


class _Group(msgspec.Struct, forbid_unknown_fields=True):
    nouns: tuple[str, ...]
    classes: str


class _Attribute(msgspec.Struct, forbid_unknown_fields=True):
    questions: tuple[str, ...]
    answers: dict[str, str]


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    groups: dict[str, _Group]
    attributes: dict[str, _Attribute]


@cache
def load_knowledge(path: str | Path | None = None) -> Knowledge:
    """Read a table, the package's own by default.

    Raises:
        InputError: the file is not such a table, or what it says is not consistent.
    """
    source: Any = Path(path) if path else files("weightgen.data.photos") / "knowledge.json"
    try:
        table = msgspec.json.decode(source.read_bytes(), type=_Table)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{source}: {error}; expected a table of groups and attributes") from error
    groups = {name: Group(each.nouns, tuple(each.classes.split())) for name, each in table.groups.items()}
    attributes = {
        name: Attribute(
            each.questions, {answer: tuple(text.split()) for answer, text in each.answers.items()}
        )
        for name, each in table.attributes.items()
    }
    return Knowledge(groups, attributes)
