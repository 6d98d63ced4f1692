"""An image tower of timm: pictures to the features before its classifier."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor, nn

from weightgen.encoders.clip_checks import MAX_SIDE
from weightgen.encoders.packaged_towers import ADVICE, PACKAGED, efficientnet_lite0
from weightgen.encoders.pixels import Preprocessing
from weightgen.errors import InputError, check_sizes
from weightgen.storage.files import StrPath, read_object, read_tensors, write_json, write_tensors
from weightgen.storage.hub import check_finite

WEIGHTS = "model.safetensors"


class ImageTower:
    """A frozen network of timm without its classifier.

    Args:
        model: the network.
        name: timm's name of it.
        settings: open_clip's preprocessing: `size`, `mean`, `std`, `interpolation`, `resize_mode`.
        device: where it runs.
        named: whether `name` alone is enough to get the weights again.

    Attributes:
        dim: the length F of the features.
        digest: SHA-256 of the weights and the preprocessing.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        settings: dict[str, Any],
        *,
        device: str | torch.device = "cpu",
        named: bool = True,
    ) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.name, self.named = name, named
        self.preprocess = Preprocessing(settings, device)
        self.dim: int = self.model.num_features
        self.digest = digest_of(self.model, {**settings, "features": "before the classifier"})

    @classmethod
    def load(
        cls,
        name: str,
        *,
        weights: StrPath | None = None,
        size: int | None = None,
        resize_mode: str = "shortest",
        device: str | torch.device = "cpu",
    ) -> Self:
        """Make a tower by timm's name.

        Args:
            name: such as `tf_efficientnet_lite0` or `vit_small_patch16_224.dino`.
            weights: a safetensors file of its weights; by default an installed package's, or else the Hub's.
            size: pixels of a side; by default the one it was trained with.
            resize_mode: `shortest` (shorter side to `size`, centre cropped) or `squash`.
            device: where it runs.

        Raises:
            InputError: timm does not know the name, the weights cannot be had, or they are another model's.
        """
        model = _network(name, weights)
        config = model.pretrained_cfg
        settings = {
            "size": size or config["input_size"][1],
            "mean": list(config["mean"]),
            "std": list(config["std"]),
            "interpolation": config["interpolation"],
            "resize_mode": resize_mode,
        }
        return cls(model, name, settings, device=device, named=weights is None)

    def to(self, device: str | torch.device) -> None:
        """Move it, in place."""
        self.model.to(device)
        self.preprocess.to(device)

    def save(self, folder: StrPath) -> None:
        """Copy the tower into a new folder."""
        Path(folder).mkdir(parents=True)
        write_json(
            Path(folder) / "tower.json", {"model": self.name, "preprocessing": self.preprocess.settings}
        )
        write_tensors(Path(folder) / WEIGHTS, self.model.state_dict(), metadata={"format": "pt"})

    @classmethod
    def read(cls, folder: StrPath, device: str | torch.device = "cpu") -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: a file is missing or damaged.
        """
        record = read_object(Path(folder) / "tower.json")
        name, settings = record.get("model"), record.get("preprocessing")
        if not isinstance(name, str) or not isinstance(settings, dict):
            raise InputError(f"{Path(folder) / 'tower.json'} needs a model and its preprocessing")
        check_sizes(1, MAX_SIDE, size=settings.get("size", 0))
        return cls(_network(name, Path(folder) / WEIGHTS), name, settings, device=device, named=False)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image] | Tensor, batch_size: int = 64) -> Tensor:
        """Features (N, F) of N pictures, or of pixels (N, 3, H, W) as `preprocess` makes them."""
        pieces = [torch.empty(0, self.dim, device=self.preprocess.device)]
        for start in range(0, len(images), batch_size):
            piece = images[start : start + batch_size]
            batch = piece if isinstance(piece, Tensor) else torch.stack([self.preprocess(x) for x in piece])
            pixels = self.preprocess.normalize(batch).to(memory_format=torch.channels_last)
            pieces.append(self.model(pixels).float())
        return torch.cat(pieces)


def _network(name: str, weights: StrPath | None) -> Any:
    import timm

    short = re.sub(r"^(hf[-_]hub:)?timm/", "", name)
    if not timm.is_model(short.split(".")[0]):
        raise InputError(f"timm knows no image tower {name!r}: see timm.list_models()")
    if weights is not None:
        model = timm.create_model(short, pretrained=False, num_classes=0)
        return _filled(model, read_tensors(weights), str(weights))
    tensors = efficientnet_lite0() if short == "tf_efficientnet_lite0" else None
    if tensors is not None:
        model = timm.create_model(short, pretrained=False, num_classes=0)
        # The package's names differ, its order is that of timm: the order of the forward pass.
        names = list(timm.create_model(short, pretrained=False).state_dict())
        return _filled(model, dict(zip(names, tensors.values(), strict=True)), short)
    try:
        return timm.create_model(short, pretrained=True, num_classes=0)
    except Exception as error:  # of the Hub's client, of the network, of timm
        remedy = f"{ADVICE} has it" if short in PACKAGED else "give a local file as weights=FILE.safetensors"
        raise InputError(
            f"the image tower {name} cannot be downloaded ({type(error).__name__}): connect to the network once, "
            f"or {remedy}"
        ) from error


def _filled(model: nn.Module, tensors: dict[str, Tensor], source: str) -> nn.Module:
    """Load all weights of a model; those of a classifier, which it does not have, are left out."""
    wanted = model.state_dict()
    other = [key for key, value in wanted.items() if key not in tensors or tensors[key].shape != value.shape]
    if other:
        raise InputError(
            f"{source} does not hold the weights of this image tower: {other[0]} is missing or of another shape"
        )
    kept = {key: tensors[key] for key in wanted}
    check_finite(kept, source)
    model.load_state_dict(kept)
    return model


def digest_of(model: nn.Module, settings: Any) -> str:
    """SHA-256 of a module's tensors and of JSON that decides how it is used; counters of batches do not count."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
