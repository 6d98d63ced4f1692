"""CLIP: images and texts to raw embeddings in one space, behind one small interface.

An encoder is any object with `encode_images` and `encode_texts` (`ImageTextEncoder`); `load_clip` makes one
from an open_clip name and tag, or from a folder. Embeddings are *raw*: whoever compares them normalises them.

The two dimensions may differ. Only a base network that compares images with answers (`CLIPAdapter`) needs
them to be equal; question embeddings condition a hypernetwork and may have any size.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

__all__ = ["CLIP", "ImageTextEncoder", "Towers"]

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PREPROCESS = ("center-crop", "squash")

Tokenize = Callable[[list[str]], Tensor]


@runtime_checkable
class ImageTextEncoder(Protocol):
    """What the feature recipe needs of an encoder; bring your own by writing these two methods."""

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Embed N images, as (N, E)."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed N texts, as (N, E), where E may be another size than that of the images."""


class Towers(NamedTuple):
    """What the loaders of the different formats hand over.

    Attributes:
        model: has `encode_image((N, 3, H, W))` and `encode_text((N, L))`, both to (N, E).
        tokenize: a list of N texts to token ids (N, L).
        pixels: open_clip's preprocessing: `size`, `mean`, `std`, `interpolation`, `resize_mode`.
        dim: the size E of the embeddings.
        vocabulary: a text that identifies the tokenizer.
    """

    model: nn.Module
    tokenize: Tokenize
    pixels: dict[str, Any]
    dim: int
    vocabulary: str


class CLIP:
    """A frozen pair of image and text towers.

    Args:
        towers: the model and what it needs around it.
        label: what to call it, e.g. `ViT-B-32 openai` or the name of its folder.
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
        towers: Towers,
        label: str,
        *,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        preprocess: str = "center-crop",
    ) -> None:
        resize = {"resize_mode": "squash"} if preprocess == "squash" else {}
        self._pixels = {**towers.pixels, **resize}
        self._resize, mean, std = _preprocessing(self._pixels)
        self._tokenize = towers.tokenize
        self.digest = _digest(towers._replace(pixels=self._pixels))
        self.image_dim = self.text_dim = towers.dim
        self.device, self.dtype = torch.device(device), PRECISIONS[precision]
        self._mean, self._std = (torch.tensor(x, device=self.device).view(-1, 1, 1) for x in (mean, std))
        self.model: Any = towers.model.to(self.device, self.dtype).eval().requires_grad_(False)
        parts = [label, *resize.values(), self.digest[:8], *([precision] if precision != "fp32" else [])]
        self.name = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")

    def __repr__(self) -> str:
        return f"CLIP({self.name}, dim={self.image_dim}, device={self.device})"

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize and crop one image to (3, H, W) uint8; safe to call from several threads."""
        image = self._resize(image if image.mode == "RGB" else image.convert("RGB"))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)

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

    def _normalized(self, batch: Tensor) -> Tensor:
        batch = batch.to(self.device, non_blocking=True)
        if not batch.is_floating_point():  # the very operations of torchvision, so that no bit differs
            batch = batch.float().div_(255).sub_(self._mean).div_(self._std)
        return batch.to(
            self.dtype, memory_format=torch.channels_last
        )  # convolutions run twice as fast on a CPU

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


def _preprocessing(pixels: Mapping[str, Any]) -> tuple[Callable[[Image.Image], Image.Image], Any, Any]:
    """What open_clip does to an image before it is a tensor, and the mean and std of its normalisation."""
    from open_clip.transform import MaybeToTensor, PreprocessCfg, image_transform_v2
    from torchvision.transforms import Compose, Normalize

    *steps, to_tensor, normalize = image_transform_v2(PreprocessCfg(**pixels), is_train=False).transforms
    assert isinstance(to_tensor, MaybeToTensor) and isinstance(normalize, Normalize)
    return Compose(steps), normalize.mean, normalize.std


def _digest(towers: Towers) -> str:
    """Hash all that decides what the embeddings are, apart from the precision they are computed in."""
    digest = hashlib.sha256(json.dumps([towers.pixels, towers.vocabulary], sort_keys=True).encode())
    for name, tensor in sorted(towers.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
