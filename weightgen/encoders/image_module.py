"""An encoder's image tower as a module that takes pixels, so that it can be exported with a network."""

from typing import Any

import torch
from torch import Tensor, nn


class ImageModule(nn.Module):
    """Pixels (N, 3, H, W) of uint8, resized and cropped as the encoder's `preprocess` does it → features (N, E).

    Args:
        tower: normalised pixels (N, 3, H, W) → features.
        mean: of the normalisation, with shape (3, 1, 1).
        std: of the normalisation, with shape (3, 1, 1).
        projection: what turns the tower's features into those of the encoder: an offset (F,) and a matrix (F, E), or None.
    """

    mean: Tensor
    std: Tensor
    offset: Tensor | None
    matrix: Tensor | None

    def __init__(
        self, tower: nn.Module, mean: Tensor, std: Tensor, projection: tuple[Tensor, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.tower = tower
        offset, matrix = (None, None) if projection is None else projection
        for name, value in {"mean": mean, "std": std, "offset": offset, "matrix": matrix}.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        features: Any = self.tower((pixels.to(torch.float32) / 255 - self.mean) / self.std)
        if self.offset is not None and self.matrix is not None:
            features = (features - self.offset) @ self.matrix
        return features


class EncodeImage(nn.Module):
    """The image tower of a CLIP as a module of its own.

    Args:
        model: has `encode_image`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (N, 3, H, W) → features (N, E)."""
        return self.model.encode_image(pixels).float()
