"""Pictures as a tower wants them: resized, cropped and normalised by open_clip's operations."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from weightgen.errors import InputError, needs
from weightgen.storage.images import to_rgb

OWN_MODES = ("shortest", "squash")


class Preprocessing:
    """From a picture to the tensor that an image tower takes, in two steps: one for threads, one for the device.

    Args:
        settings: open_clip's: `size`, `mean`, `std`, `interpolation`, `resize_mode`.
        device: where `normalize` runs.
    """

    def __init__(self, settings: Mapping[str, Any], device: str | torch.device = "cpu") -> None:
        self.settings = dict(settings)
        self.device = torch.device(device)
        self._resize, mean, std = _transform(settings)
        self._mean, self._std = (torch.tensor(x, device=self.device).view(-1, 1, 1) for x in (mean, std))

    def to(self, device: str | torch.device) -> None:
        """Normalise on another device from now on."""
        self.device = torch.device(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)

    @property
    def normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of pixels in [0, 1], each with shape (3, 1, 1)."""
        return self._mean, self._std

    def __call__(self, image: Image.Image) -> Tensor:
        """Resize and crop one picture to (3, H, W) uint8; safe to call from several threads."""
        return torch.from_numpy(np.array(self._resize(to_rgb(image)))).permute(2, 0, 1)

    def normalize(self, batch: Tensor) -> Tensor:
        """Normalise pixels (N, 3, H, W) of uint8 on the device; floats are taken as normalised already."""
        batch = batch.to(self.device, non_blocking=True)
        if not batch.is_floating_point():  # the very operations of torchvision, so that no bit differs
            batch = batch.float().div_(255).sub_(self._mean).div_(self._std)
        return batch


def _transform(settings: Mapping[str, Any]) -> tuple[Callable[[Image.Image], Image.Image], Any, Any]:
    """What open_clip does to a picture before it is a tensor, and the mean and std of its normalisation.

    The settings of a timm tower are complete and of two kinds, which need no open_clip; a test compares them to the bit.
    """
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

    mode, size = settings.get("resize_mode"), settings.get("size")
    if {"mean", "std", "interpolation"} <= settings.keys() and isinstance(size, int) and mode in OWN_MODES:
        how = InterpolationMode("bilinear" if settings["interpolation"] == "bilinear" else "bicubic")
        squash = mode == "squash"
        own = [Resize((size, size) if squash else size, how)] + ([] if squash else [CenterCrop(size)])
        return Compose(own), settings["mean"], settings["std"]
    with needs("clip"):
        from open_clip.transform import MaybeToTensor, PreprocessCfg, image_transform_v2

    try:
        made = image_transform_v2(PreprocessCfg(**settings), is_train=False)
        *steps, to_tensor, normalize = made.transforms
        Compose(steps)(Image.new("RGB", (2, 3)))
        scale = torch.tensor([normalize.mean, normalize.std], dtype=torch.float64)
    except Exception as error:  # open_clip and torchvision raise many kinds
        raise InputError(
            f"no preprocessing can be made of {dict(settings)!r:.200}: {error!r:.100}"
        ) from error
    if scale.shape != (2, 3) or not bool(scale.isfinite().all()) or not bool((scale[1] > 0).all()):
        raise InputError(
            f"expected three finite means and three positive deviations of pixels, got {scale.tolist()}"
        )
    assert isinstance(to_tensor, MaybeToTensor) and isinstance(normalize, Normalize)
    return Compose(steps), normalize.mean, normalize.std
