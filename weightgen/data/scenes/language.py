"""Words for scenes: many ways to name an object, shared by questions and captions so that both speak one language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations, product

from weightgen.data.scenes.world import ATTRIBUTES, DIRECTIONS, SHAPES, Object, Scene

SHAPE_NOUNS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "round shape"),
    "square": ("square", "box", "square shape"),
    "triangle": ("triangle", "triangular shape", "three-sided shape"),
    "star": ("star", "star shape", "five-pointed star"),
    "heart": ("heart", "heart shape", "heart-shaped object"),
    "cross": ("cross", "plus sign", "plus"),
    "ring": ("ring", "hoop", "donut"),
    "moon": ("moon", "crescent", "crescent moon"),
}
ADJECTIVES: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium-sized", "mid-sized"),
    "large": ("large", "big", "huge"),
    "plain": ("plain", "solid", "unpatterned"),
    "striped": ("striped", "stripy", "lined"),
    "dotted": ("dotted", "spotted", "polka-dotted"),
    "checkered": ("checkered", "checked", "checkerboard"),
}
THINGS = ("object", "thing", "item", "figure")
PLACES: dict[str, tuple[str, ...]] = {
    "top left": ("top left", "upper left", "top left corner", "upper left corner"),
    "top right": ("top right", "upper right", "top right corner", "upper right corner"),
    "bottom left": ("bottom left", "lower left", "bottom left corner", "lower left corner"),
    "bottom right": ("bottom right", "lower right", "bottom right corner", "lower right corner"),
}
SIDES: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over", "directly above"),
    "below": ("below", "under", "beneath"),
}
NUMBERS = ("0", "1", "2", "3", "4")


@dataclass(frozen=True)
class Referent:
    """What a phrase points at: the one object that looks like this, or the neighbour of the one that does.

    Args:
        looks: one or two attribute values, such as (("size", "small"), ("pattern", "striped")), in the order of `ATTRIBUTES`.
        beside: a direction, if the neighbour in it is meant and not the object itself.
    """

    looks: tuple[tuple[str, str], ...]
    beside: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The attributes that the phrase gives away, so that nobody need ask for them."""
        return () if self.beside else tuple(kind for kind, _ in self.looks)

    def find(self, scene: Scene) -> Object | None:
        """The object pointed at, or None where the scene has none or several."""
        candidates = scene.where(**dict(self.looks))
        if len(candidates) != 1:
            return None
        return scene.neighbour(candidates[0], self.beside) if self.beside else candidates[0]

    def phrases(self) -> list[str]:
        """All ways to say it, with the article: "the star", "the small striped object", "the object to the left of the star", …"""
        if not self.beside:
            return [f"the {phrase}" for phrase in noun_phrases(dict(self.looks))]
        marks = noun_phrases(dict(self.looks))
        return [
            f"the {thing} {side} the {mark}"
            for thing in THINGS
            for side in SIDES[self.beside]
            for mark in marks
        ]

    def plurals(self) -> list[str]:
        """All ways to name several of them: "stars", "red objects", …"""
        return noun_phrases(dict(self.looks), plural)


def noun_phrases(looks: Mapping[str, str], inflect: Callable[[str], str] = str) -> list[str]:
    """All noun phrases, without an article, of an object that looks like this; `inflect` changes the noun."""
    words = [
        ADJECTIVES.get(looks[kind], (looks[kind],)) for kind in ("size", "pattern", "color") if kind in looks
    ]
    nouns = [inflect(noun) for noun in (SHAPE_NOUNS[looks["shape"]] if "shape" in looks else THINGS)]
    places = [f" in the {place}" for place in PLACES[looks["position"]]] if "position" in looks else [""]
    return [" ".join(parts[:-1]) + parts[-1] for parts in product(*words, nouns, places)]


def plural(noun: str) -> str:
    """English plural of one of our nouns."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def simple_referents() -> list[Referent]:
    """One referent per attribute value."""
    return [Referent(((kind, value),)) for kind, values in ATTRIBUTES.items() for value in values]


def pair_referents() -> list[Referent]:
    """One referent per pair of values of two attributes: "the small striped object", "the red star", …"""
    pairs = combinations(ATTRIBUTES.items(), 2)
    return [Referent(((a, x), (b, y))) for (a, xs), (b, ys) in pairs for x, y in product(xs, ys)]


def relational_referents() -> list[Referent]:
    """One referent per direction and landmark shape."""
    return [Referent((("shape", shape),), direction) for direction in DIRECTIONS for shape in SHAPES]
