"""What the page computes for drawn characters: a HyperTransformer writes a CNN from them, which then reads another one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from weightgen.errors import InputError
from weightgen.hypernets import HyperTransformer
from weightgen.storage.files import StrPath, read_json
from weightgen.tasks import Examples

MIN_INK = 20
"""Fewest dark pixels of a drawing; less is a slip of the hand."""


class Draughtsman(NamedTuple):
    """A trained HyperTransformer with the scale of its pixels.

    Attributes:
        hypernet: writes CNNs.
        mean: pixel value, from 0 to 255, that becomes 0.
        std: pixel values per unit.
    """

    hypernet: HyperTransformer
    mean: float
    std: float

    @classmethod
    def load(cls, folder: StrPath) -> Draughtsman:
        """From the output folder of recipes/train_hypertransformer.py.

        Raises:
            InputError: it is no such folder, or its CNN does not read grey pictures.
        """
        facts = read_json(Path(folder, "training.json"))
        try:
            mean, std = (float(facts["settings"][name]) for name in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{folder} is no output of recipes/train_hypertransformer.py: its settings lack {error}"
            ) from error
        hypernet = HyperTransformer.from_pretrained(Path(folder, "hypernet"))
        if hypernet.network.image_channels != 1:
            raise InputError(f"{folder} writes CNNs for pictures in color: the page draws in black on white")
        return cls(hypernet, mean, std)

    @property
    def most_classes(self) -> int:
        """Most classes of its CNN."""
        return int(self.hypernet.network.num_classes)

    @torch.no_grad()
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
        labels = torch.tensor([names.index(name) for name, _ in drawings])
        support = Examples(self._pixels([picture for _, picture in drawings]), labels)
        # With statistics of the examples, because a single drawing has none that say anything.
        network = self.hypernet.eval().export(support, stored_statistics=True)
        shares = network(self._pixels([query])).softmax(dim=-1)
        size = sum(weights.numel() for weights in network.parameters())
        return Reading(names, shares[None], size, time.perf_counter() - start)

    def _pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pictures as the CNN was trained on them, with shape (N, 1, H, W): white ink on black, scaled."""
        side = self.hypernet.network.image_size
        small = [picture.convert("L").resize((side, side), Image.Resampling.BOX) for picture in pictures]
        values = torch.stack([torch.from_numpy(255 - np.asarray(one, dtype=np.float32)) for one in small])
        return ((values - self.mean) / self.std)[:, None]


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
