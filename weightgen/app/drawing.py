"""What the page computes for drawn characters: a HyperTransformer writes a CNN from them, which then reads another one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from weightgen.errors import InputError
from weightgen.pipelines.picture_hypernet import PictureHypernet
from weightgen.storage.files import StrPath

MIN_INK = 20
"""Fewest dark pixels of a drawing; less is a slip of the hand."""


class Draughtsman(NamedTuple):
    """A trained HyperTransformer that reads drawings.

    Attributes:
        model: writes CNNs.
    """

    model: PictureHypernet

    @classmethod
    def load(cls, name: StrPath) -> Draughtsman:
        """From the output folder of recipes/train_hypertransformer.py, or the name of a model that comes with the package.

        Raises:
            InputError: it is neither, or its CNN does not read grey pictures.
        """
        model = PictureHypernet.load(name)
        if model.scale.channels != 1:
            raise InputError(f"{name} writes CNNs for pictures in color: the page draws in black on white")
        return cls(model)

    @property
    def most_classes(self) -> int:
        """Most classes of its CNN."""
        return self.model.most_classes

    def read(self, drawings: Sequence[tuple[str, Image.Image]], query: Image.Image) -> Reading:
        """Write a CNN from labelled drawings, and let it classify another drawing.

        Args:
            drawings: class and picture of each, black on white.
            query: the picture to classify.

        Raises:
            InputError: fewer than two classes, or more than the CNN has.
        """
        names = sorted({name for name, _ in drawings})
        if not 2 <= len(names) <= self.most_classes:
            raise InputError(f"draw examples of 2 to {self.most_classes} classes, got {len(names)}")
        start = time.perf_counter()
        cnn = self.model.write(
            {name: [picture for each, picture in drawings if each == name] for name in names}
        )
        shares = cnn.probabilities([query])
        size = sum(weights.numel() for weights in cnn.network.parameters())
        return Reading(names, shares[None], size, time.perf_counter() - start)


class Reading(NamedTuple):
    """What the CNN says.

    Attributes:
        names: C classes in order.
        shares: probability of each, with shape (1, 1, C).
        size: number of weights of the CNN.
        seconds: to write and to use it.
    """

    names: list[str]
    shares: Tensor
    size: int
    seconds: float


def drawn(sketch: Any) -> Image.Image:
    """What a sketchpad holds, black on white.

    Args:
        sketch: what `gr.Sketchpad` gives: a dictionary with the array `composite` (H, W, 4).

    Raises:
        InputError: nothing is drawn.
    """
    values: NDArray[np.uint8] | None = sketch.get("composite") if isinstance(sketch, dict) else None
    if values is None:
        raise InputError("draw a character first")
    picture = Image.fromarray(np.asarray(values, dtype=np.uint8)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    grey = Image.alpha_composite(white, picture).convert("L")
    if int((np.asarray(grey) < 128).sum()) < MIN_INK:
        raise InputError("draw a character first")
    return grey
