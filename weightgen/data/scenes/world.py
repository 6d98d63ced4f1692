"""A scene: two to four objects, at most one in each quarter of the picture, on a coloured background.

Every object has five attributes with a name each: shape, color, size, pattern and position (its quarter). What is not named in any
question or caption (rotation, jitter, shade, occlusion, noise) is nuisance, drawn from the same seed.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
COLORS = {
    "red": (214, 40, 40), "orange": (244, 140, 30), "yellow": (245, 220, 60), "green": (50, 160, 70),
    "blue": (45, 90, 210), "purple": (130, 60, 170), "white": (245, 245, 245), "black": (25, 25, 28),
}  # fmt: skip
BACKGROUNDS = {
    "gray": (140, 140, 140), "brown": (122, 84, 58), "pink": (238, 168, 186), "teal": (58, 140, 140), "beige": (222, 205, 170),
}  # fmt: skip
SIZES = {"small": 7.5, "medium": 10.5, "large": 14.0}  # radius in pixels of a 64 x 64 image
PATTERNS = ("plain", "striped", "dotted", "checkered")
POSITIONS = ("top left", "top right", "bottom left", "bottom right")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES, "color": tuple(COLORS), "size": tuple(SIZES), "pattern": PATTERNS, "position": POSITIONS,
}  # fmt: skip
DIRECTIONS = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}  # (columns, rows) from the landmark


@dataclass(frozen=True)
class Object:
    """One object; `x`, `y`, `radius` in pixels of a 64 x 64 image, `angle` in radians, `rgb` the jittered colour in 0-255."""

    shape: str
    color: str
    size: str
    pattern: str
    position: str
    x: float
    y: float
    radius: float
    angle: float
    rgb: tuple[int, int, int]

    @property
    def column(self) -> int:
        return int(self.position.endswith("right"))

    @property
    def row(self) -> int:
        return int(self.position.startswith("bottom"))


@dataclass(frozen=True)
class Scene:
    """Objects in drawing order (later ones occlude earlier ones), the background and the seed of the picture's noise."""

    objects: tuple[Object, ...]
    background: str
    background_rgb: tuple[int, int, int]
    noise_seed: int

    def where(self, **wanted: str) -> list[Object]:
        """Objects whose attributes have the wanted values, e.g. `scene.where(shape="star")`."""
        return [o for o in self.objects if all(getattr(o, k) == v for k, v in wanted.items())]

    def neighbour(self, landmark: Object, direction: str) -> Object | None:
        """The object in the quarter next to `landmark` in one of `DIRECTIONS`, if there is one."""
        columns, rows = DIRECTIONS[direction]
        wanted = (landmark.column + columns, landmark.row + rows)
        return next((o for o in self.objects if (o.column, o.row) == wanted), None)


def _jitter(rgb: tuple[int, int, int], rng: random.Random, spread: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, value + rng.randint(-spread, spread))) for value in rgb)
    return red, green, blue


def _draw_object(rng: random.Random, position: str, earlier: list[Object]) -> Object:
    # Repeats make counting and ambiguity real: about one object in four shares its shape or its colour with an earlier one.
    repeat = rng.random() if earlier else 1.0
    shape = rng.choice(earlier).shape if repeat < 0.16 else rng.choice(SHAPES)
    color = rng.choice(earlier).color if 0.10 < repeat < 0.26 else rng.choice(tuple(COLORS))
    size = rng.choice(tuple(SIZES))
    column, row = position.endswith("right"), position.startswith("bottom")
    return Object(
        shape=shape, color=color, size=size, pattern=rng.choice(PATTERNS), position=position,
        x=17 + 30 * column + rng.uniform(-4.5, 4.5), y=17 + 30 * row + rng.uniform(-4.5, 4.5),
        radius=SIZES[size] * rng.uniform(0.92, 1.08), angle=rng.uniform(-math.pi / 7, math.pi / 7),
        rgb=_jitter(COLORS[color], rng, 16),
    )  # fmt: skip


def draw_scene(rng: random.Random) -> Scene:
    """Draw one scene from `rng`; the same generator state gives the same scene."""
    objects: list[Object] = []
    for position in rng.sample(POSITIONS, rng.choice((2, 3, 3, 4, 4))):
        objects.append(_draw_object(rng, position, objects))
    background = rng.choice(tuple(BACKGROUNDS))
    return Scene(tuple(objects), background, _jitter(BACKGROUNDS[background], rng, 14), rng.getrandbits(32))
