"""A trained HyperTransformer for pictures on disk: a folder of class folders in, a CNN out.

    FOLDER/CLASS/*.png    labelled pictures, one or more of each class
    FOLDER/*.png          further pictures of these classes, without labels

Notation: N pictures, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from weightgen.errors import InputError
from weightgen.hypernets.hypertransformer import HyperTransformer
from weightgen.pipelines.picture_classifier import PictureClassifier
from weightgen.pipelines.picture_scale import PictureScale
from weightgen.storage.files import StrPath, kind_of, read_object
from weightgen.storage.hub import downloaded
from weightgen.storage.images import SUFFIXES, is_stray, read_image
from weightgen.tasks import UNLABELED, Examples

MOST = 1000
"""Most pictures of a task."""
SCALE = "pictures.json"
"""Beside a saved HyperTransformer: how pictures become its pixels."""


class PictureHypernet(NamedTuple):
    """A HyperTransformer and the pictures that it reads.

    Attributes:
        hypernet: writes CNNs.
        scale: how pictures become pixels.
        name: which model it is.
    """

    hypernet: HyperTransformer
    scale: PictureScale
    name: str

    @classmethod
    def load(cls, name: StrPath) -> PictureHypernet:
        """From the name of a model that comes with the package, or the output folder of recipes/train_hypertransformer.py.

        A grey model of the recipe is taken for one of drawings, as Omniglot's: dark strokes on light paper.

        Raises:
            InputError: it is neither.
        """
        found = downloaded(name, ("*.json", "*.safetensors"))
        if kind_of(found / SCALE) == "file":
            hypernet = HyperTransformer.from_pretrained(found)
            scale = PictureScale.checked(**read_object(found / SCALE))
        elif kind_of(found / "training.json") == "file":
            mean, std = _trained_with(found)
            hypernet = HyperTransformer.from_pretrained(found / "hypernet")
            side, channels = hypernet.network.image_size, hypernet.network.image_channels
            scale = PictureScale.checked(
                side=side, channels=channels, mean=mean, std=std, inverted=channels == 1
            )
        else:
            raise InputError(
                f"{name} is no HyperTransformer: expected the output of recipes/train_hypertransformer.py, or the name of a "
                "shipped model, such as omniglot-16ch-1shot or cifar-fs-32ch-1shot"
            )
        network = hypernet.network
        if (network.image_size, network.image_channels) != (scale.side, scale.channels):
            raise InputError(
                f"{found / SCALE} does not fit the CNN of the model, for pictures of {network.image_size} pixels"
            )
        return cls(hypernet, scale, Path(name).name)

    @property
    def most_classes(self) -> int:
        """Most classes of its CNNs."""
        return int(self.hypernet.network.num_classes)

    def write(
        self,
        examples: Mapping[str, Sequence[Image.Image]],
        unlabeled: Sequence[Image.Image] = (),
        names: Sequence[str] = (),
    ) -> PictureClassifier:
        """Write a CNN in one pass.

        Args:
            examples: pictures of each class.
            unlabeled: further pictures of these classes.
            names: of all pictures in this order, for messages.

        Returns:
            The CNN, whose batch norms have the statistics of these pictures.

        Raises:
            InputError: fewer than two classes, more than the model has, or a class without pictures.
        """
        classes = list(examples)
        if not 2 <= len(classes) <= self.most_classes:
            raise InputError(
                f"expected 2 to {self.most_classes} classes, got {len(classes)}: {self.name} has {self.most_classes} label slots"
            )
        for label, pictures in examples.items():
            if not pictures:
                raise InputError(f"class {label!r} has no pictures: give it one at least")
        pictures = [each for label in classes for each in examples[label]] + list(unlabeled)
        pixels = self.scale.pixels(pictures, names)
        return self._write({label: len(examples[label]) for label in classes}, pixels)

    def _write(self, counts: Mapping[str, int], pixels: Tensor) -> PictureClassifier:
        """From how many pictures of each class come first; the others have no label."""
        classes = list(counts)
        labels = [k for k, count in enumerate(counts.values()) for _ in range(count)]
        facts = {"model": self.name, "labelled": len(labels), "unlabelled": len(pixels) - len(labels)}
        labels += [UNLABELED] * (len(pixels) - len(labels))
        network = self.hypernet.eval().export(Examples(pixels, torch.tensor(labels)), stored_statistics=True)
        return PictureClassifier(network, classes, self.scale, facts)

    def write_from(self, folder: StrPath) -> PictureClassifier:
        """Write a CNN from a folder of class folders; pictures beside them have no label.

        Raises:
            InputError: see `write`; or there is no such folder, or a picture that cannot be read.
        """
        root = Path(folder)
        if kind_of(root) != "folder":
            raise InputError(f"no folder {folder}: expected one with a folder of pictures for each class")
        within = {
            path.name: _pictures(path)
            for path in sorted(root.iterdir())
            if path.is_dir() and not is_stray(path.name)
        }
        if not 2 <= len(within) <= self.most_classes:  # before pictures are read
            number = f"{len(within)} class folder{'s' * (len(within) != 1)}"
            raise InputError(
                f"{folder} holds {number}: expected 2 to {self.most_classes}, each with pictures of one class"
            )
        if odd := [name for name in within if not name.isprintable()]:
            raise InputError(f"the name of the class folder {odd[0]!r} holds a tab or the like: rename it")
        if empty := [name for name, paths in within.items() if not paths]:
            raise InputError(
                f"{root / empty[0]} holds no pictures ({', '.join(SUFFIXES)}): each class needs one at least"
            )
        beside = _pictures(root)
        paths = [path for each in within.values() for path in each] + beside
        if len(paths) > MOST:
            raise InputError(f"{folder} holds {len(paths)} pictures: expected at most {MOST}")
        pixels = self.scale.pixels(map(read_image, paths), [str(path) for path in paths])
        return self._write({name: len(each) for name, each in within.items()}, pixels)


def _pictures(folder: Path) -> list[Path]:
    """The picture files that lie in a folder, not deeper."""
    return sorted(
        p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and not is_stray(p.name)
    )


def _trained_with(folder: Path) -> tuple[Any, Any]:
    """Mean and std of the pixels in training."""
    facts = read_object(folder / "training.json")
    settings = facts.get("settings")
    if not isinstance(settings, dict) or not {"mean", "std"} <= settings.keys():
        raise InputError(
            f"{folder} is no output of recipes/train_hypertransformer.py: its settings lack 'mean' or 'std'"
        )
    return settings["mean"], settings["std"]
