"""Two towers that were trained apart, and a linear alignment between them.

    image ─ image tower ─► (F,) ─┐
                                 ├─ alignment ─► one space (E,)
    statement ─ text tower ─► (G,)┘
    question ─ text tower ─► (G,), as it is

open_clip can hold such a pair too (`timm_model_name`, `hf_model_name`), but its projections have no mean and its
text tower is built from a path or a name, so texts come out only nearly equal and the folder is not relocatable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from weightgen.encoders.alignment import Alignment
from weightgen.encoders.clip_towers import folder_name
from weightgen.encoders.image_maps import embeds_and_map
from weightgen.encoders.image_module import ImageModule
from weightgen.encoders.image_tower import ImageTower
from weightgen.encoders.late_tower import LateTower, check_digest
from weightgen.encoders.packaged_towers import PACKAGED
from weightgen.encoders.text_tower import TextTower
from weightgen.errors import InputError
from weightgen.protocols import Encoder
from weightgen.storage.files import StrPath, read_object, read_shapes, write_json, written_beside
from weightgen.storage.hub import class_path

ALIGNMENT = "alignment.safetensors"


class PairedEncoder(Encoder):
    """An `Encoder` of any image tower of timm and any text tower of transformers.

    Args:
        image_tower: embeds images.
        text_tower: embeds texts and questions.
        alignment: maps both into one space.
        name: what to call it.
        report: what is known of the alignment, such as its retrieval on classes it was not fitted on.

    Attributes:
        digest: SHA-256 of the two towers and the alignment.
    """

    def __init__(
        self,
        image_tower: ImageTower | LateTower,
        text_tower: TextTower,
        alignment: Alignment,
        *,
        name: str | None = None,
        report: dict[str, Any] | None = None,
    ) -> None:
        sizes = (len(alignment.image_mean), len(alignment.text_mean))
        if sizes != (image_tower.dim, text_tower.dim):
            raise InputError(
                f"the alignment is for features of lengths {sizes}, the towers give {image_tower.dim} and {text_tower.dim}"
            )
        self.image_tower, self.text_tower = image_tower, text_tower
        self.device = text_tower.device
        self.alignment = alignment.to(self.device)
        self.report = report or {}
        self.image_dim = self.text_dim = alignment.image_map.shape[1]
        self.digest = _digest(image_tower, text_tower, alignment)
        label = name or f"{image_tower.name} {text_tower.name.rpartition('/')[2]} {self.digest[:8]}"
        self.name = folder_name(label)

    def to(self, device: str | torch.device) -> Self:
        """Move it, in place."""
        self.device = torch.device(device)
        self.image_tower.to(device)
        self.text_tower.to(device)
        self.alignment = self.alignment.to(device)
        return self

    def __repr__(self) -> str:
        return f"PairedEncoder({self.name}, dim={self.image_dim}, question_dim={self.question_dim}, device={self.device})"

    @property
    def max_tokens(self) -> int:
        """The number of tokens that is read of a text."""
        return self.text_tower.max_tokens

    @property
    def question_dim(self) -> int:
        """The length of the text tower's own vectors."""
        return self.text_tower.dim

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resize and crop one image to (3, H, W) uint8; safe to call from several threads."""
        return self.image_tower.preprocess(image)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image] | Tensor, batch_size: int = 64) -> Tensor:
        """Embed N images, or pixels as `preprocess` makes them, as (N, E), not normalised."""
        return self.alignment.images(self.image_tower(images, batch_size))

    @torch.inference_mode()
    def encode_maps(self, images: Sequence[Image.Image] | Tensor, grid: int) -> tuple[Tensor, Tensor]:
        """Embeddings (N, E) of N images, or of pixels as `preprocess` makes them, and maps (N, D, S, S) of the image tower.

        Raises:
            InputError: the image tower has no map, or none of S × S places.
        """
        batch = images if isinstance(images, Tensor) else torch.stack([self.preprocess(x) for x in images])
        pixels = self.image_tower.preprocess.normalize(batch).to(memory_format=torch.channels_last)
        features, maps = embeds_and_map(self.image_tower.model, pixels, grid, self.name)
        return self.alignment.images(features), maps

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Embed N statements in the space of images, as (N, E), not normalised."""
        return self.alignment.texts(self.text_tower(texts, batch_size))

    @torch.inference_mode()
    def encode_questions(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Embed N questions by the text tower itself, as (N, E_q)."""
        return self.text_tower(texts, batch_size)

    def image_module(self) -> ImageModule:
        """The image tower with its normalisation and alignment, for an export."""
        mean, std = self.image_tower.preprocess.normalization
        projection = (self.alignment.image_mean, self.alignment.image_map)
        return ImageModule(self.image_tower.model, mean, std, projection)

    def save_pretrained(self, folder: StrPath, copy_towers: bool = False) -> None:
        """Write a folder: the alignment, and for each tower its name and digest, or a copy of it.

        Args:
            folder: the folder to make.
            copy_towers: whether to copy towers that come in packages on PyPI; all others always are, so that no saved encoder
                asks the network for a name.
        """
        with written_beside(folder) as partial:
            partial.mkdir()
            towers: dict[str, Any] = {}
            for key in ("image_tower", "text_tower"):
                tower = getattr(self, key)
                towers[key] = {"model": tower.name, "digest": tower.digest}
                if copy_towers or not tower.named or tower.name not in PACKAGED:
                    tower.save(partial / key)
                    towers[key]["folder"] = key
            towers["image_tower"]["preprocessing"] = self.image_tower.preprocess.settings
            about = {"class": class_path(self), "name": self.name, "digest": self.digest, **towers}
            write_json(partial / "encoder.json", about)
            write_json(partial / "alignment.json", self.report)
            self.alignment.save(partial / ALIGNMENT, self.image_tower.digest, self.text_tower.digest)

    @classmethod
    def from_pretrained(cls, folder: StrPath, *, device: str | torch.device = "cpu") -> Self:
        """Read what `save_pretrained` wrote.

        Raises:
            InputError: a file is missing or damaged, a tower cannot be had or is another one.
        """
        folder = Path(folder)
        record = read_object(folder / "encoder.json")
        try:
            image, text = record["image_tower"], record["text_tower"]
            image_tower: ImageTower | LateTower
            if "folder" in image:
                image_tower = ImageTower.read(_inside(folder, image["folder"]), device)
            else:
                _check_packaged(folder, image["model"])
                dim = read_shapes(folder / ALIGNMENT)["image_mean"][0][0]
                image_tower = LateTower(image, dim, folder, device)
            if "folder" in text:
                text_tower = TextTower(
                    _inside(folder, text["folder"]), text["model"], device=device, named=False
                )
            else:
                _check_packaged(folder, text["model"])
                text_tower = TextTower.load(text["model"], device=device)
            for tower, saved in ((image_tower, image), (text_tower, text)):
                check_digest(tower, str(saved["digest"]), folder)
            name = record["name"]
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder / 'encoder.json'} is not of a PairedEncoder: {error} is missing"
            ) from error
        alignment = Alignment.load(folder / ALIGNMENT, image_tower.digest, text_tower.digest)
        report = read_object(folder / "alignment.json")
        return cls(image_tower, text_tower, alignment, name=name, report=report)


def _inside(folder: Path, name: Any) -> Path:
    """A folder directly in another one."""
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
        raise InputError(
            f"{folder / 'encoder.json'} names the folder {name!r:.80}: expected one inside of it"
        )
    return folder / name


def _check_packaged(folder: Path, name: Any) -> None:
    """Refuse names that would be looked up on the network: the author of a folder may not choose what is downloaded."""
    if name not in PACKAGED:
        raise InputError(
            f"{folder} names the tower {name!r:.80} without holding it, which only {' and '.join(PACKAGED)} may be: "
            "save the encoder again, with copy_towers=True"
        )


def _digest(image_tower: ImageTower | LateTower, text_tower: TextTower, alignment: Alignment) -> str:
    digest = hashlib.sha256(f"{image_tower.digest} {text_tower.digest}".encode())
    for tensor in (alignment.image_mean, alignment.image_map, alignment.text_mean, alignment.text_map):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
