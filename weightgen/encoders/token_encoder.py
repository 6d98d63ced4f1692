"""Images as an embedding and a grid of tokens, in one vector: what `TokenAdapter` takes.

Notation: N images, E embedding of a whole image, S × S tokens of D numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from weightgen.encoders.clip_towers import folder_name
from weightgen.errors import InputError, check_sizes
from weightgen.protocols import Encoder
from weightgen.storage.files import (
    StrPath,
    read_object,
    read_tensors,
    write_json,
    write_tensors,
    written_beside,
)
from weightgen.storage.hub import check_finite, class_path

COMPONENTS = "components.safetensors"


class TokenEncoder(Encoder):
    """An encoder whose images are vectors [x, k_1, …, k_S²]: another encoder's embedding x and the tokens of its image tower.

    Tokens are principal components of the tower's map, scaled so that they have variance 1 on average. Texts are those of the other
    encoder. As images are plain vectors, all that reads features works on them unchanged.

    Args:
        base: an encoder with `encode_maps`, such as `CLIP` or `PairedEncoder`.
        grid: S.
        mean: of the map's channels, with shape (C,).
        components: map channels → token, with shape (C, D).

    Attributes:
        image_dim: E + S² D.
        token_shape: (S², D).

    Raises:
        InputError: the base has no maps.
    """

    def __init__(self, base: Encoder, grid: int, mean: Tensor, components: Tensor) -> None:
        _check_maps(base)
        self.base, self.grid = base, grid
        self.device: torch.device = getattr(base, "device", torch.device("cpu"))
        # In one layout, because the bits of a product depend on it.
        self.mean, self.components = mean.to(self.device), components.to(self.device).contiguous()
        self.token_shape = (grid**2, components.shape[1])
        self.image_dim, self.text_dim = base.image_dim + grid**2 * components.shape[1], base.text_dim
        self.digest = self._digest()
        self.name = folder_name(f"{base.name} tokens {grid} {components.shape[1]}")

    def to(self, device: str | torch.device) -> Self:
        """Move it, in place."""
        base: Any = self.base
        base.to(device)
        self.device = torch.device(device)
        self.mean, self.components = self.mean.to(device), self.components.to(device)
        return self

    def __repr__(self) -> str:
        return f"TokenEncoder({self.name}, {self.token_shape[0]} tokens of {self.token_shape[1]}, device={self.device})"

    @property
    def question_dim(self) -> int:
        """The length of the base encoder's questions."""
        return self.base.question_dim

    @classmethod
    @torch.inference_mode()
    def fit(cls, base: Encoder, images: Sequence[Image.Image], grid: int = 8, dim: int = 64) -> Self:
        """Take the principal components of the maps of some images.

        Args:
            base: an encoder with `encode_maps`.
            images: a few hundred images of the kind to come.
            grid: S.
            dim: D.

        Raises:
            InputError: the base has no maps, or fewer channels than D, or there are too few images.
        """
        _check_maps(base)
        maps: Tensor = base.encode_maps(images, grid)[1]  # type: ignore[attr-defined]
        rows = maps.movedim(1, -1).flatten(0, -2)
        if dim > min(rows.shape):
            raise InputError(
                f"{dim} principal components need as many channels and tokens, got {rows.shape[1]} and {len(rows)}"
            )
        mean = rows.mean(dim=0)
        scatter = (rows - mean).T @ (rows - mean) / len(rows)
        # In double precision, or two machines would disagree about the last components.
        variances, directions = torch.linalg.eigh(scatter.double())
        scale = variances[-dim:].mean().clamp_min(1e-12) ** -0.5
        directions = directions[:, -dim:].flip(1)
        largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
        components = (directions * largest.sign() * scale).float()
        return cls(base, grid, mean.clone(), components.clone())

    def preprocess(self, image: Image.Image) -> Tensor:
        """What the base encoder does to an image before it is encoded."""
        return self.base.preprocess(image)  # type: ignore[attr-defined]

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image] | Tensor, batch_size: int = 64) -> Tensor:
        """Embed N images, or pixels as `preprocess` makes them, as (N, E + S² D)."""
        pieces = [torch.empty(0, self.image_dim, device=self.device)]
        for start in range(0, len(images), batch_size):
            embeds, maps = self.base.encode_maps(images[start : start + batch_size], self.grid)  # type: ignore[attr-defined]
            tokens = (maps.movedim(1, -1).flatten(1, 2) - self.mean) @ self.components
            pieces.append(torch.cat([embeds, tokens.flatten(1)], dim=1))
        return torch.cat(pieces)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed N statements, as the base encoder does."""
        return self.base.encode_texts(texts)

    def encode_questions(self, texts: Sequence[str]) -> Tensor:
        """Embed N questions, as the base encoder does."""
        return self.base.encode_questions(texts)

    def save_pretrained(self, folder: StrPath) -> None:
        """Write the base encoder and the components.

        Raises:
            InputError: the folder exists.
        """
        with written_beside(folder) as partial:
            partial.mkdir()
            self.base.save_pretrained(partial / "base")
            tensors = {"mean": self.mean.cpu(), "components": self.components.cpu()}
            write_tensors(partial / COMPONENTS, tensors)
            about = {"class": class_path(self), "digest": self.digest, "grid": self.grid}
            write_json(partial / "encoder.json", about)

    @classmethod
    def from_pretrained(cls, folder: StrPath, *, device: str | torch.device = "cpu") -> Self:
        """Read what `save_pretrained` wrote.

        Raises:
            InputError: a file is missing or damaged, or the parts are not those that were saved.
        """
        from weightgen.encoders.load import load_encoder

        folder = Path(folder)
        record: dict[str, Any] = read_object(folder / "encoder.json")
        tensors = read_tensors(folder / COMPONENTS)
        base = load_encoder(folder / "base", device=device)
        check_sizes(1, 1000, grid=record.get("grid", 0))
        check_finite(tensors, str(folder / COMPONENTS))
        try:
            encoder = cls(base, record["grid"], tensors["mean"].clone(), tensors["components"].clone())
            saved = record["digest"]
        except (KeyError, IndexError, TypeError) as error:
            raise InputError(f"{folder} is not of a TokenEncoder: {error}") from error
        if encoder.digest != saved:
            raise InputError(
                f"{folder} was saved with another encoder: its digest is {saved[:12]}, that of the one here {encoder.digest[:12]}"
            )
        return encoder

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.base.digest} tokens {self.grid}".encode())
        for tensor in (self.mean, self.components):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def _check_maps(base: Encoder) -> None:
    if not hasattr(base, "encode_maps"):
        raise InputError(
            f"{type(base).__name__} has no map of image tokens: embed without tokens, or give it a method encode_maps(images, grid)"
        )
