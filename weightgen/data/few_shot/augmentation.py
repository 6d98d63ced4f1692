"""Random changes of photos for training: a flip and a crop for each image, a colour for each set of a task.

Notation: B tasks, N examples; H × W pixels. Pixels are from 0 to 1 here.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from weightgen.errors import InputError, check_range


@dataclass
class Augmentation:
    """What the HyperTransformer paper does to the photos of miniImageNet and tieredImageNet in training.

    All numbers are drawn uniformly. A crop is a square with `crop` to 1 of the image's side, anywhere in it, and is scaled back. The
    colours of a set are turned by −hue to hue of the circle, its pixels get −brightness to brightness added, and the difference of a
    pixel from the mean of its image and channel is multiplied by 1 − contrast to 1 + contrast.

    References:
        Zhmoginov et al., "HyperTransformer", 2022, appendix B; the numbers are those of the released code.

    Args:
        flip: whether half of the images are flipped left to right.
        crop: smallest side of a crop, as a share of the image's; 1 for none.
        hue: at most 0.5.
        brightness: as a share of the largest pixel value.
        contrast: at most 1.

    Raises:
        InputError: a number out of range.
    """

    flip: bool = True
    crop: float = 0.6
    hue: float = 0.2
    brightness: float = 0.3
    contrast: float = 0.2

    def __post_init__(self) -> None:
        check_range(0.01, 1, crop=self.crop)
        check_range(0, 0.5, hue=self.hue)
        check_range(0, 1, brightness=self.brightness, contrast=self.contrast)

    def change(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Change the images of B sets.

        Args:
            pixels: from 0 to 1, with shape (B, N, channels, H, W).
            rng: of the draws, which are the same whatever the device.

        Returns:
            Pixels from 0 to 1, of the same shape.

        Raises:
            InputError: a hue for images that have no three channels.
        """
        if self.hue and pixels.shape[2] != 3:
            raise InputError(
                f"hue needs images of 3 channels, and these have {pixels.shape[2]}: write hue: 0"
            )
        return self._colour(self._place(pixels, rng), rng).clamp(0, 1)

    def _place(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Flip and crop each image, by one bilinear sampling of all."""
        if not self.flip and self.crop == 1:
            return pixels
        images = pixels.flatten(0, 1)
        side = rng.uniform(self.crop, 1, len(images))
        shift = rng.uniform(-1, 1, (2, len(images))) * (1 - side)  # in half sides of the image
        sign = 1 - 2.0 * (self.flip & (rng.random(len(images)) < 0.5))
        nothing = np.zeros(len(images))
        rows = np.array([[side * sign, nothing, shift[0]], [nothing, side, shift[1]]])
        grid = F.affine_grid(_like(rows.transpose(2, 0, 1), images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False).view_as(pixels)

    def _colour(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Change the colours of each set."""
        from torchvision.transforms.v2.functional import (
            adjust_hue,
        )  # a second, which episodes without photos spare

        hue, brightness, contrast = rng.uniform(-1, 1, (3, len(pixels)))
        if self.hue:
            changed = zip(pixels, hue * self.hue, strict=True)
            pixels = torch.stack([adjust_hue(images, turn) for images, turn in changed])
        mean = pixels.mean(dim=(3, 4), keepdim=True)
        factor, added = (
            _like(x, pixels).reshape(-1, 1, 1, 1, 1)
            for x in (1 + contrast * self.contrast, brightness * self.brightness)
        )
        return (pixels - mean) * factor + mean + added


def _like(values: NDArray[np.float64], pixels: Tensor) -> Tensor:
    return torch.from_numpy(values).to(pixels)
