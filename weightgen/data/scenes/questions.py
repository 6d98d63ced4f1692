"""Questions about scenes: a *meaning* is an attribute of a referent; a question is one of many ways to ask for it.

Two questions with one meaning have the same answer on every scene; two meanings differ in the attribute or in the referent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from weightgen.data.scenes.language import NUMBERS, Referent, relational_referents, simple_referents
from weightgen.data.scenes.world import Scene

# {x} is the referent's phrase, {xs} its plural.
_FORMS: dict[str, tuple[str, ...]] = {
    "color": (
        "What color is {x}?", "What is the color of {x}?", "Which color is {x}?", "What colour does {x} have?", "What hue is {x}?",
        "What color is {x} painted?", "{x} is what color?", "What is {x}'s color?", "Which color does {x} have?",
    ),
    "shape": (
        "What shape is {x}?", "What is the shape of {x}?", "Which shape is {x}?", "What kind of shape is {x}?", "What is {x}?",
        "What form does {x} have?", "{x} has what shape?", "Which shape does {x} have?",
    ),
    "size": (
        "What size is {x}?", "How big is {x}?", "How large is {x}?", "What is the size of {x}?", "Which size is {x}?",
        "What size does {x} have?", "{x} is how big?",
    ),
    "pattern": (
        "What pattern is on {x}?", "What pattern does {x} have?", "Which pattern covers {x}?", "What is the pattern of {x}?",
        "How is {x} patterned?", "What kind of pattern is on {x}?", "What texture does {x} have?",
    ),
    "position": (
        "Where is {x}?", "Where in the picture is {x}?", "In which corner is {x}?", "What is the position of {x}?",
        "In what part of the image is {x}?", "Which corner is {x} in?", "Where can {x} be seen?",
    ),
    "count": (
        "How many {xs} are there?", "How many {xs} are in the picture?", "What is the number of {xs}?", "How many {xs} do you see?",
        "How many {xs} can be counted?", "How many {xs} does the image show?",
    ),
    "background": (
        "What color is the background?", "What is the color of the background?", "Which color is the background?",
        "What colour is behind the objects?", "What hue is the background?", "On what color are the objects placed?",
        "What color fills the background?", "The background is what color?",
    ),
}  # fmt: skip
_ASKABLE = ("color", "shape", "size", "pattern", "position")


@dataclass(frozen=True)
class Meaning:
    """What is asked: an attribute (or "count", "background") of a referent (None: of everything)."""

    attribute: str
    referent: Referent | None

    def answer(self, scene: Scene) -> str | None:
        """The right answer on a scene, or None where the question does not apply there."""
        if self.attribute == "background":
            return scene.background
        if self.attribute == "count":
            wanted = {self.referent.kind: self.referent.value} if self.referent else {}
            return NUMBERS[len(scene.where(**wanted))]
        item = self.referent.find(scene) if self.referent else None
        return getattr(item, self.attribute) if item else None

    def paraphrases(self) -> list[str]:
        """Every question of this meaning, in a fixed order."""
        one = self.referent.phrases() if self.referent else ["the picture"]
        many = (
            self.referent.plurals() if self.referent else ["objects", "shapes", "things", "items", "figures"]
        )
        names = many if self.attribute == "count" else one
        questions = [form.format(x=name, xs=name) for form, name in product(_FORMS[self.attribute], names)]
        return list(dict.fromkeys(question[0].upper() + question[1:] for question in questions))


def all_meanings() -> list[Meaning]:
    """Every meaning that can be asked, about two hundred, in a fixed order."""
    return list(_meanings())


def _meanings() -> Iterator[Meaning]:
    for attribute, referent in product(_ASKABLE, simple_referents()):
        if attribute != referent.kind:
            yield Meaning(attribute, referent)
    for attribute, referent in product(("color", "shape"), relational_referents()):
        yield Meaning(attribute, referent)
    for referent in simple_referents():
        if referent.kind != "position":
            yield Meaning("count", referent)
    yield Meaning("count", None)
    yield Meaning("background", None)


def novel_compositions(number: int = 26, seed: int = 2210) -> list[Meaning]:
    """The meanings held out of all training, in any paraphrase: attribute-referent pairs whose parts are both asked about elsewhere.

    At most one pair per referent, so that every referent and every attribute stays well known from other questions.
    """
    pairs = [m for m in _meanings() if m.attribute in _ASKABLE and m.referent]
    random.Random(seed).shuffle(pairs)
    one_each = {m.referent: m for m in reversed(pairs)}
    return sorted(one_each.values(), key=pairs.index)[:number]
