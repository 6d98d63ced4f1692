"""Questions about scenes: a *meaning* is an attribute of a referent; a question is one of many ways to ask for it.

Two questions with one meaning have the same answer on every scene; two meanings differ in the attribute or in the referent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from weightgen.data.scenes.language import (
    NUMBERS,
    Referent,
    pair_referents,
    relational_referents,
    simple_referents,
)
from weightgen.data.scenes.world import ATTRIBUTES, Scene

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
            return NUMBERS[len(scene.where(**dict(self.referent.looks if self.referent else ())))]
        item = self.referent.find(scene) if self.referent else None
        return getattr(item, self.attribute) if item else None

    def paraphrases(self) -> list[str]:
        """Every question of this meaning, in a fixed order."""
        questions = (_filled(form, name) for form, name in product(_FORMS[self.attribute], self._names()))
        return list(dict.fromkeys(questions))

    def say(self, rng: random.Random) -> str:
        """One of its questions."""
        return _filled(rng.choice(_FORMS[self.attribute]), rng.choice(self._names()))

    def _names(self) -> list[str]:
        if self.referent is None:
            return ["objects", "shapes", "things", "items", "figures"] if self.attribute == "count" else [""]
        return self.referent.plurals() if self.attribute == "count" else self.referent.phrases()


def _filled(form: str, name: str) -> str:
    question = form.format(x=name, xs=name)
    return question[0].upper() + question[1:]


def all_meanings() -> list[Meaning]:
    """Every meaning that can be asked, about a thousand, in a fixed order."""
    return list(_meanings())


def _meanings() -> Iterator[Meaning]:
    for referent in (*simple_referents(), *pair_referents()):
        yield from (
            Meaning(attribute, referent) for attribute in ATTRIBUTES if attribute not in referent.kinds
        )
    for attribute, referent in product(("color", "shape"), relational_referents()):
        yield Meaning(attribute, referent)
    for referent in simple_referents():
        if referent.kinds != ("position",):
            yield Meaning("count", referent)
    yield Meaning("count", None)
    yield Meaning("background", None)


def split_meanings(held_out: int = 150, validation: int = 100, seed: int = 2210) -> dict[str, list[Meaning]]:
    """The meanings of the splits train, validation and held_out_meanings, which share none.

    What is held out is an attribute of a referent: attribute and referent are both asked about in training, but never together.
    Numbers of objects and the background always belong to training.
    """
    pairs = [meaning for meaning in _meanings() if meaning.attribute in ATTRIBUTES]
    random.Random(seed).shuffle(pairs)
    apart = {"held_out_meanings": pairs[:held_out], "validation": pairs[held_out : held_out + validation]}
    unknown = {meaning for meanings in apart.values() for meaning in meanings}
    return {"train": [meaning for meaning in _meanings() if meaning not in unknown], **apart}


def meanings_of_questions() -> dict[str, str]:
    """Every question → its meaning as a text, which is the first of the meaning's questions."""
    wordings = (meaning.paraphrases() for meaning in _meanings())
    return {question: questions[0] for questions in wordings for question in questions}
