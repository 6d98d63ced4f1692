"""How picture files become the pixels that a HyperTransformer and its CNNs were trained on.

Notation: N pictures; H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from weightgen.errors import InputError, check_range


class PictureScale(NamedTuple):
    """The size and the numbers of pixels.

    Attributes:
        side: H = W.
        channels: 1 for grey, 3 for colour.
        mean: value, from 0 to 255, that becomes 0.
        std: values per unit.
        inverted: whether dark strokes on light paper become bright ones, as in Omniglot.
    """

    side: int
    channels: int
    mean: float
    std: float
    inverted: bool

    @classmethod
    def checked(cls, **values: Any) -> PictureScale:
        """From what a file says.

        Raises:
            InputError: a value is missing, of another type or out of range.
        """
        side, channels, inverted = (values.get(name) for name in ("side", "channels", "inverted"))
        if (
            type(side) is not int
            or not 1 <= side <= 4096
            or channels not in (1, 3)
            or type(inverted) is not bool
        ):
            raise InputError(
                f"expected a side from 1 to 4096, 1 or 3 channels, and inverted true or false, got {side!r:.40}, {channels!r:.40} "
                f"and {inverted!r:.40}"
            )
        numbers = []
        for name, least in (("mean", 0.0), ("std", 1e-3)):
            value: Any = values.get(name)
            check_range(least, 1e4, **{name: value})
            numbers.append(float(value))
        return cls(side, channels, numbers[0], numbers[1], inverted)

    def pixels(self, pictures: Iterable[Image.Image], names: Sequence[str] = ()) -> Tensor:
        """Pictures of any sizes as numbers, with shape (N, channels, H, W).

        Drawings that are no squares get paper at their sides; of photos the middle square is kept.

        Args:
            pictures: the N pictures; each can be forgotten before the next is read.
            names: for messages.

        Raises:
            InputError: a drawing without strokes, or one that is more dark than light, where dark strokes on light paper are expected.
        """
        found = [
            self._values(each, names[i] if names else f"picture {i + 1}") for i, each in enumerate(pictures)
        ]
        return (torch.stack(found) - self.mean) / self.std

    def _values(self, picture: Image.Image, name: str) -> Tensor:
        size = (self.side, self.side)
        if self.channels == 3:
            fitted = ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.BOX)
            return torch.from_numpy(np.array(fitted, dtype=np.float32)).movedim(2, 0)
        grey = picture.convert("L")
        values = torch.from_numpy(np.array(self._squared(grey), dtype=np.float32))[None]
        if not self.inverted:
            return values
        darkest, lightest = grey.getextrema()
        if darkest == lightest == 255:
            raise InputError(f"{name} is blank: expected a drawing with dark strokes on light paper")
        if float(np.asarray(grey).mean()) < 128:
            raise InputError(
                f"{name} is more dark than light: this model reads dark strokes on light paper; invert the picture"
            )
        return 255 - values

    def _squared(self, grey: Image.Image) -> Image.Image:
        """The whole drawing with paper at its sides, scaled: the longer side first, so that a long strip takes no large square."""
        wide = grey.width >= grey.height
        longer, paper = max(grey.size), 255 if self.inverted else 0
        grey = grey.resize(
            (self.side, grey.height) if wide else (grey.width, self.side), Image.Resampling.BOX
        )
        padded = Image.new("L", (self.side, longer) if wide else (longer, self.side), paper)
        padded.paste(grey, ((padded.width - grey.width) // 2, (padded.height - grey.height) // 2))
        return padded.resize((self.side, self.side), Image.Resampling.BOX)
