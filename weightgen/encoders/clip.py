"""CLIP: images and texts to raw embeddings in one space. `load_clip` makes one from a name or a folder.

Embeddings are *raw*: whoever compares them normalises them. Questions are embedded as other texts are.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from weightgen.encoders.clip_source import ClipSource
from weightgen.encoders.clip_towers import Towers, folder_name
from weightgen.encoders.image_maps import embeds_and_map
from weightgen.encoders.image_module import EncodeImage, ImageModule
from weightgen.encoders.pixels import Preprocessing
from weightgen.errors import InputError
from weightgen.protocols import Encoder
from weightgen.storage.files import StrPath, read_object, write_json, written_beside
from weightgen.storage.hub import class_path

__all__ = ["CLIP"]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PREPROCESS = ("center-crop", "squash")


class CLIP(Encoder):
    """A frozen pair of image and text towers.

    Args:
        source: where it comes from.
        device: where it runs.
        precision: `fp32`, `fp16` or `bf16`: the type that the towers compute in.
        preprocess: `center-crop` (the model's own preprocessing) or `squash` (straight to the input size,
            ignoring the aspect ratio, as the authors of HyperCLIP did).

    Attributes:
        name: identifies the weights, tokenizer and preprocessing; fit for a folder name.
        digest: the same identity as a SHA-256, without the precision.
    """

    def __init__(
        self,
        source: ClipSource,
        *,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        preprocess: str = "center-crop",
    ) -> None:
        towers = source.read()
        resize = {"resize_mode": "squash"} if preprocess == "squash" else {}
        self.source, self.resize_mode = source, preprocess
        self.preprocess = Preprocessing({**towers.pixels, **resize}, device)
        self._tokenize = towers.tokenize
        self.digest = _digest(towers._replace(pixels=self.preprocess.settings))
        self.image_dim = self.text_dim = towers.dim
        self.device, self.dtype = torch.device(device), PRECISIONS[precision]
        self.model: Any = towers.model.to(self.device, self.dtype).eval().requires_grad_(False)
        parts = [
            source.label,
            *resize.values(),
            self.digest[:8],
            *([precision] if precision != "fp32" else []),
        ]
        self.name = folder_name("-".join(parts))

    def to(self, device: str | torch.device) -> Self:
        """Move it, in place."""
        self.device = torch.device(device)
        self.model.to(device)
        self.preprocess.to(device)
        return self

    def __repr__(self) -> str:
        return f"CLIP({self.name}, dim={self.image_dim}, device={self.device})"

    @property
    def max_tokens(self) -> int:
        """The number of tokens that is read of a text."""
        return self.tokenize(["a"]).shape[1]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Turn N texts into token ids (N, L) int64, padded and cut to the model's context length."""
        return self._tokenize(list(texts))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image] | Tensor, batch_size: int = 64) -> Tensor:
        """Embed images, not normalised.

        Args:
            images: N images, or pixels (N, 3, H, W): uint8 as `preprocess` makes them, or floats that are
                normalised already.
            batch_size: how many go through the tower at once.

        Returns:
            Embeddings (N, E), float32, on the model's device.
        """
        pieces = [torch.empty(0, self.image_dim, device=self.device)]
        for start in range(0, len(images), batch_size):
            piece = images[start : start + batch_size]
            batch = piece if isinstance(piece, Tensor) else torch.stack([self.preprocess(x) for x in piece])
            pieces.append(self.model.encode_image(self._normalized(batch)).float())
        return torch.cat(pieces)

    @torch.inference_mode()
    def encode_maps(self, images: Sequence[Image.Image] | Tensor, grid: int) -> tuple[Tensor, Tensor]:
        """Embeddings (N, E) of N images, or of pixels as `preprocess` makes them, and maps (N, D, S, S) of the image tower.

        Raises:
            InputError: the image tower has no map, or none of S × S places.
        """
        batch = images if isinstance(images, Tensor) else torch.stack([self.preprocess(x) for x in images])
        tower = getattr(self.model, "visual", None)
        return embeds_and_map(tower, self._normalized(batch), grid, self.name)

    def _normalized(self, batch: Tensor) -> Tensor:
        # In this layout convolutions run twice as fast on a CPU.
        return self.preprocess.normalize(batch).to(self.dtype, memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Embed texts, not normalised.

        Args:
            texts: N texts.
            batch_size: how many go through the tower at once.

        Returns:
            Embeddings (N, E), float32, on the model's device.
        """
        pieces = [torch.empty(0, self.text_dim, device=self.device)]
        for start in range(0, len(texts), batch_size):
            tokens = self.tokenize(texts[start : start + batch_size]).to(self.device)
            pieces.append(self.model.encode_text(tokens).float())
        return torch.cat(pieces)

    def image_module(self) -> ImageModule:
        """The image tower with its normalisation, for an export.

        Raises:
            InputError: it computes in another precision than fp32.
        """
        if self.dtype != torch.float32:
            raise InputError(
                f"an image tower of {self.dtype} cannot be exported: load it with precision='fp32'"
            )
        return ImageModule(EncodeImage(self.model), *self.preprocess.normalization)

    def save_pretrained(self, folder: StrPath) -> None:
        """Write how to get this CLIP again: a name, or a copy of its folder.

        Raises:
            InputError: the folder exists.
        """
        with written_beside(folder) as partial:
            partial.mkdir()
            about = {"class": class_path(self), "digest": self.digest, "preprocess": self.resize_mode}
            write_json(partial / "encoder.json", {**about, "clip": self.source.save(partial)})

    @classmethod
    def from_pretrained(cls, folder: StrPath, *, device: str | torch.device = "cpu") -> Self:
        """Read what `save_pretrained` wrote.

        Raises:
            InputError: a file is missing or damaged, or the weights are not those that were saved.
        """
        record = read_object(Path(folder) / "encoder.json")
        try:
            source, preprocess = ClipSource.restore(record["clip"], folder), record["preprocess"]
            clip = cls(source, device=device, preprocess=preprocess)
            saved = record["digest"]
        except (KeyError, TypeError) as error:
            raise InputError(f"{Path(folder) / 'encoder.json'} is not of a CLIP: {error}") from error
        if clip.digest != saved:
            raise InputError(
                f"{folder} was saved with another CLIP: its digest is {str(saved)[:12]}, that of the one here {clip.digest[:12]}"
            )
        return clip


def _digest(towers: Towers) -> str:
    """Hash all that decides what the embeddings are, apart from the precision they are computed in."""
    digest = hashlib.sha256(json.dumps([towers.pixels, towers.vocabulary], sort_keys=True).encode())
    for name, tensor in sorted(towers.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
