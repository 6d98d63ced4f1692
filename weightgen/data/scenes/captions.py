"""Short captions with their truth: each is a text and a predicate, so it is known of every scene whether the caption fits.

A caption names two or three attributes of one object ("a striped red star"), a relation ("a red object left of a star"), a number
("two stars"), the background, or asks and answers ("what color is the small star? red"). No caption asks what `split_meanings` holds out
for validation or test. Nothing is stated as "the star is red", which is how answers are put to CLIP later.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weightgen.data.scenes.language import ADJECTIVES, PLACES, SHAPE_NOUNS, SIDES, THINGS, Referent
from weightgen.data.scenes.questions import Meaning, split_meanings
from weightgen.data.scenes.world import ATTRIBUTES, BACKGROUNDS, DIRECTIONS, POSITIONS, Scene

LOOKS = (
    "shape",
    "color",
    "size",
    "pattern",
)  # attributes with a column of the grid; the position is the grid's own place
_CODES = {name: {value: i for i, value in enumerate(ATTRIBUTES[name])} for name in LOOKS}
_BACKGROUND_CODES = {value: i for i, value in enumerate(BACKGROUNDS)}
_ASKED = [m for m in split_meanings()["train"] if m.referent and m.attribute in ATTRIBUTES]
_ASKED_OF_PAIRS = {meaning for meaning in _ASKED if meaning.referent and len(meaning.referent.looks) == 2}
_ASKED_OF_ONE = [meaning for meaning in _ASKED if meaning not in _ASKED_OF_PAIRS]
_COUNTS = ("no", "one", "two", "three", "four")


@dataclass(frozen=True)
class Caption:
    """A text and when it is true: some object has `wanted`; or `number` objects have it; or the background is `background`.

    With `beside` = (direction, looks), the object with `wanted` must lie in that direction of an object with those looks.
    """

    text: str
    wanted: tuple[tuple[str, str], ...] = ()
    number: int | None = None
    background: str | None = None
    beside: tuple[str, tuple[tuple[str, str], ...]] | None = None


class Grid:
    """N scenes as arrays, on which captions are checked all at once: looks (N, 4 quarters, 4 looks), -1 where a quarter is empty."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.looks = np.full((len(scenes), len(POSITIONS), len(LOOKS)), -1, dtype=np.int8)
        self.background = np.array([_BACKGROUND_CODES[scene.background] for scene in scenes], dtype=np.int8)
        for row, scene in enumerate(scenes):
            for item in scene.objects:
                codes = [_CODES[name][getattr(item, name)] for name in LOOKS]
                self.looks[row, POSITIONS.index(item.position)] = codes

    def __getitem__(self, rows: Sequence[int]) -> Grid:
        part = object.__new__(Grid)
        part.looks, part.background = self.looks[rows], self.background[rows]
        return part

    def _having(self, wanted: Sequence[tuple[str, str]]) -> np.ndarray:
        """Which quarters hold an object with these attributes, with shape (N, 4)."""
        found = self.looks[:, :, 0] >= 0
        for name, value in wanted:
            if name == "position":
                found = found & (np.arange(len(POSITIONS)) == POSITIONS.index(value))
            else:
                found = found & (self.looks[:, :, LOOKS.index(name)] == _CODES[name][value])
        return found

    def fits(self, caption: Caption) -> np.ndarray:
        """Of which scenes the caption is true, with shape (N,)."""
        if caption.background is not None:
            return np.equal(self.background, _BACKGROUND_CODES[caption.background])
        found = self._having(caption.wanted)
        if caption.number is not None:
            return np.equal(found.sum(axis=1), caption.number)
        if caption.beside is None:
            return np.asarray(found.any(axis=1))
        direction, landmark = caption.beside
        columns, rows = DIRECTIONS[direction]
        marks, true = self._having(landmark), np.zeros(len(found), dtype=bool)
        for column in (0, 1):
            for row in (0, 1):
                x, y = column + columns, row + rows
                if x in (0, 1) and y in (0, 1):
                    true |= marks[:, 2 * row + column] & found[:, 2 * y + x]
        return true


def _word(value: str, rng: random.Random) -> str:
    return rng.choice(ADJECTIVES.get(value, (value,)))


def _phrase(wanted: dict[str, str], rng: random.Random) -> str:
    """A noun phrase with exactly these attributes."""
    words = [_word(wanted[name], rng) for name in ("size", "pattern", "color") if name in wanted]
    rng.shuffle(words)
    noun = rng.choice(SHAPE_NOUNS[wanted["shape"]]) if "shape" in wanted else rng.choice(THINGS)
    place = f" in the {rng.choice(PLACES[wanted['position']])}" if "position" in wanted else ""
    return " ".join(["a", *words, noun]) + place


def describe(scene: Scene, rng: random.Random) -> Caption:
    """Two or three attributes of one object."""
    item = rng.choice(scene.objects)
    names = rng.sample(tuple(ATTRIBUTES), rng.choice((2, 2, 3)))
    wanted = {name: getattr(item, name) for name in names}
    return Caption(_phrase(wanted, rng), tuple(wanted.items()))


def relate(scene: Scene, rng: random.Random) -> Caption:
    """An object beside another one, named by its color, its shape or both."""
    pairs = [
        (item, side, other)
        for item in scene.objects
        for side in DIRECTIONS
        if (other := scene.neighbour(item, side))
    ]
    if not pairs:  # two objects on a diagonal
        return describe(scene, rng)
    mark, side, other = rng.choice(pairs)
    wanted = {name: getattr(other, name) for name in rng.choice((("shape",), ("color",), ("color", "shape")))}
    landmark = {"shape": mark.shape}
    text = f"{_phrase(wanted, rng)} {rng.choice(SIDES[side])} {_phrase(landmark, rng)}"
    return Caption(text, tuple(wanted.items()), beside=(side, tuple(landmark.items())))


def count(scene: Scene, rng: random.Random) -> Caption:
    """How many objects there are, of all or with one attribute value that some object has."""
    if rng.random() < 0.2:
        total = len(scene.objects)
        return Caption(f"{rng.choice((_COUNTS[total], str(total)))} {rng.choice(THINGS)}s", number=total)
    name = rng.choice(LOOKS)
    value = getattr(rng.choice(scene.objects), name) if rng.random() < 0.8 else rng.choice(ATTRIBUTES[name])
    number = len(scene.where(**{name: value}))
    names = Referent(((name, value),)).plurals()
    return Caption(
        f"{rng.choice((_COUNTS[number], str(number)))} {rng.choice(names)}", ((name, value),), number
    )


def ask_and_answer(scene: Scene, rng: random.Random) -> Caption:
    """A question of the training meanings, in small letters, with its answer; half of them name two attributes."""
    while True:
        meaning = _asked_of_a_pair(scene, rng) if rng.random() < 0.5 else rng.choice(_ASKED_OF_ONE)
        answer = meaning.answer(scene) if meaning else None
        if meaning and answer:
            return _answered(meaning, answer, rng)


def _asked_of_a_pair(scene: Scene, rng: random.Random) -> Meaning | None:
    """An attribute of one of the objects, named by two others; None if that is held out."""
    item = rng.choice(scene.objects)
    attribute, *named = rng.sample(tuple(ATTRIBUTES), 3)
    looks = tuple((name, getattr(item, name)) for name in ATTRIBUTES if name in named)
    meaning = Meaning(attribute, Referent(looks))
    return meaning if meaning in _ASKED_OF_PAIRS else None


def _answered(meaning: Meaning, answer: str, rng: random.Random) -> Caption:
    assert meaning.referent is not None
    text, found = f"{meaning.say(rng).lower()} {answer}", (meaning.attribute, answer)
    looks, direction = meaning.referent.looks, meaning.referent.beside
    return Caption(text, (found,), beside=(direction, looks)) if direction else Caption(text, (*looks, found))


def caption(scene: Scene, rng: random.Random) -> Caption:
    """A caption that is true of the scene."""
    kind = rng.random()
    if kind < 0.5:
        return describe(scene, rng)
    if kind < 0.6:
        return relate(scene, rng)
    if kind < 0.68:
        return count(scene, rng)
    if kind < 0.71:
        return Caption(f"a {scene.background} background", background=scene.background)
    return ask_and_answer(scene, rng)
