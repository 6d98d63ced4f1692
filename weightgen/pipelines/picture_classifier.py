"""A CNN that a HyperTransformer wrote from labelled pictures, with all that is needed to use it: one safetensors file.

Notation: N pictures, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from weightgen import __version__
from weightgen.errors import InputError
from weightgen.networks.convnet import ConvNet
from weightgen.pipelines.picture_scale import PictureScale
from weightgen.storage.files import StrPath, read_metadata, read_shapes, read_tensors, write_tensors
from weightgen.storage.hub import check_finite, compare_state

FORMAT = {"format": "weightgen-cnn", "version": 1}


class PictureClassifier(NamedTuple):
    """A CNN and the pictures that it reads.

    Attributes:
        network: classifies each picture for itself.
        classes: C names.
        scale: how pictures become pixels.
        facts: what else the file says: which model wrote it, from how many pictures.
    """

    network: ConvNet
    classes: list[str]
    scale: PictureScale
    facts: dict[str, Any]

    @torch.no_grad()
    def probabilities(self, pictures: Iterable[Image.Image], names: Sequence[str] = ()) -> Tensor:
        """The probability of each class, with shape (N, C).

        Raises:
            InputError: see `PictureScale.pixels`.
        """
        return self.network(self.scale.pixels(pictures, names)).softmax(dim=-1)

    def save(self, path: StrPath) -> None:
        """Write the weights, and beside them the names of the classes and how pictures are read."""
        record = {
            **FORMAT,
            "weightgen": __version__,
            "network": self.network.settings,
            "classes": self.classes,
            "pictures": self.scale._asdict(),
            **self.facts,
        }
        write_tensors(path, self.network.state_dict(), {"weightgen": json.dumps(record, ensure_ascii=False)})

    @classmethod
    def load(cls, path: StrPath) -> PictureClassifier:
        """Read what `save` wrote.

        Raises:
            InputError: it is no such file, or does not hold what it says.
        """
        if (record := cnn_record(path)) is None:
            raise InputError(f"{path} holds no CNN that `weightgen write` wrote")
        try:
            classes, settings = record["classes"], record["network"]
            scale = PictureScale.checked(**record["pictures"])
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise InputError("the names of the classes are no list of texts")
            with torch.device("meta"):  # takes no memory, whatever the sizes are
                compare_state(ConvNet(**settings), read_shapes(path))
            network = ConvNet(**settings)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise InputError(f"{path} is damaged: {' '.join(str(error).split()):.200}") from error
        wanted = (len(classes), scale.side, scale.channels, True)
        if wanted != tuple(
            settings[k] for k in ("num_classes", "image_size", "image_channels", "stored_statistics")
        ):
            raise InputError(
                f"{path} is damaged: its CNN does not fit its {len(classes)} classes, or its pictures"
            )
        network.load_state_dict(tensors := read_tensors(path))
        check_finite(tensors, str(path))
        used = {"network", "classes", "pictures", "weightgen", *FORMAT}
        facts = {name: value for name, value in record.items() if name not in used}
        return cls(network.eval(), classes, scale, facts)


def cnn_record(path: StrPath) -> dict[str, Any] | None:
    """What a file says beside its weights, or None where it is a safetensors file of another kind.

    Raises:
        InputError: the file is missing or truncated, or no safetensors file.
    """
    said = read_metadata(Path(path)).get("weightgen", "null")
    try:
        record = json.loads(said)
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and all(record.get(key) == value for key, value in FORMAT.items())
    return record if known else None
