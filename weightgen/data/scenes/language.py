"""Words for scenes: many ways to name an object, shared by questions and captions so that both speak one language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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

Kind = Literal["shape", "color", "size", "pattern", "position", "left of", "right of", "above", "below"]


@dataclass(frozen=True)
class Referent:
    """What a phrase points at: the one object with an attribute value, or the neighbour of the one object of a shape."""

    kind: Kind
    value: str

    def find(self, scene: Scene) -> Object | None:
        """The object pointed at, or None where the scene has none or several."""
        beside = self.kind in DIRECTIONS
        candidates = scene.where(**{"shape" if beside else self.kind: self.value})
        if len(candidates) != 1:
            return None
        return scene.neighbour(candidates[0], self.kind) if beside else candidates[0]

    def phrases(self) -> list[str]:
        """All ways to say it, with the article: "the star", "the object to the left of the star", …"""
        if self.kind == "shape":
            return [f"the {noun}" for noun in SHAPE_NOUNS[self.value]]
        if self.kind == "position":
            return [f"the {thing} in the {place}" for thing in THINGS for place in PLACES[self.value]]
        if self.kind in DIRECTIONS:
            nouns = SHAPE_NOUNS[self.value]
            return [
                f"the {thing} {side} the {noun}"
                for thing in THINGS
                for side in SIDES[self.kind]
                for noun in nouns
            ]
        return [
            f"the {word} {thing}" for word in ADJECTIVES.get(self.value, (self.value,)) for thing in THINGS
        ]

    def plurals(self) -> list[str]:
        """All ways to name several of them: "stars", "red objects", …"""
        if self.kind == "shape":
            return [plural(noun) for noun in SHAPE_NOUNS[self.value]]
        return [f"{word} {thing}s" for word in ADJECTIVES.get(self.value, (self.value,)) for thing in THINGS]


def plural(noun: str) -> str:
    """English plural of one of our nouns."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def simple_referents() -> list[Referent]:
    """One referent per attribute value."""
    return [Referent(kind, value) for kind, values in ATTRIBUTES.items() for value in values]  # type: ignore[arg-type]


def relational_referents() -> list[Referent]:
    """One referent per direction and landmark shape."""
    return [Referent(direction, shape) for direction in DIRECTIONS for shape in SHAPES]  # type: ignore[arg-type]
