"""Pictures of one plain object on a grey ground, each with its caption: what small networks can learn to draw."""

from __future__ import annotations

import random
from itertools import count, product

import numpy as np

from weightgen.data.scenes.world import BACKGROUNDS, COLORS, POSITIONS, SHAPES, SIZES, Object, Scene

MOST_BAR = 0.3  # the chance of a bar in front of everything, which `render` draws from the noise of a scene


def single_objects(seed: int = 0) -> list[tuple[str, Scene]]:
    """Every shape in every colour, size and corner, in random order: pairs of caption and scene, without bars and turns."""
    every = list(product(SIZES, COLORS, SHAPES, POSITIONS))
    random.Random(seed).shuffle(every)
    return [(f"a {size} {color} {shape} in the {place}", _scene(number, size, color, shape, place))
            for number, (size, color, shape, place) in enumerate(every)]  # fmt: skip


def _scene(number: int, size: str, color: str, shape: str, place: str) -> Scene:
    x, y = 17 + 30 * place.endswith("right"), 17 + 30 * place.startswith("bottom")
    item = Object(shape, color, size, "plain", place, x, y, SIZES[size], 0.0, COLORS[color])
    noise = next(seed for seed in count(1000 * number) if np.random.default_rng(seed).random() >= MOST_BAR)
    return Scene((item,), "gray", BACKGROUNDS["gray"], noise)
