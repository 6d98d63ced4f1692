"""What is exported, and the folder that holds it.

Notation: K samples of a network, N examples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weightgen import __version__
from weightgen.errors import InputError, needs
from weightgen.exports.numpy_file import write_numpy
from weightgen.exports.onnx_file import write_onnx
from weightgen.exports.peft_folder import write_peft
from weightgen.exports.state_dict import write_state_dict
from weightgen.storage.files import StrPath, check_new, write_json, written_beside


@dataclass(frozen=True)
class Export:
    """K networks of one task, and what they are applied to.

    Attributes:
        networks: K modules that hold their weights, with forward(inputs, **context) → logits (N, C).
        example_shape: the shape of one example, such as (E,) for image features.
        context: further inputs, the same for all examples, such as the `answers` (C, E).
        about: what `export.json` says of them, such as the question and the answers.
        image_module: pixels (N, 3, H, W) of uint8 → inputs, where the file shall take pixels; ONNX alone can hold it.
        image_shape: (3, H, W) of these pixels.
        probabilities: whether the file gives the mean over networks of softmax(logits); else it gives the mean of outputs.
    """

    networks: Sequence[nn.Module]
    example_shape: tuple[int, ...]
    context: Mapping[str, Tensor] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    image_module: nn.Module | None = None
    image_shape: tuple[int, ...] | None = None
    probabilities: bool = True


FORMATS: dict[str, Callable[[Export, Path], dict[str, Any]]] = {
    "state_dict": write_state_dict,
    "peft": write_peft,
    "onnx": write_onnx,
    "numpy": write_numpy,
}
"""Name of a format → what writes its files into a folder, and returns facts for `export.json`."""


def check_format(name: str, folder: StrPath | None = None) -> None:
    """Refuse an unknown format, one whose packages are missing, or a folder that exists; before any long work.

    Raises:
        InputError: see above.
    """
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    if name == "onnx":
        with needs("onnx"):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
    if name == "peft":
        with needs("peft"):
            import peft  # noqa: F401
    if folder is not None:
        check_new(folder)


@torch.no_grad()
def write_export(export: Export, folder: StrPath, format: str, overwrite: bool = False) -> None:
    """Write the folder: the files of the format, and `export.json`.

    Args:
        export: what to write.
        folder: the folder to make.
        format: a name in `FORMATS`.
        overwrite: whether an existing folder may be replaced.

    Raises:
        InputError: the format is unknown or cannot hold these networks, or the folder exists.
    """
    check_format(format, None if overwrite else folder)
    if not export.networks:
        raise InputError("there is no network to export")
    if export.image_module is not None and format != "onnx":
        raise InputError(f"format={format!r} holds the network alone: an image tower needs format='onnx'")
    with written_beside(folder, overwrite) as partial:
        partial.mkdir()
        facts = FORMATS[format](export, partial)
        known = {"weightgen": __version__, "format": format, "networks": len(export.networks)}
        write_json(partial / "export.json", {**known, **facts, **export.about})


def export_network(
    network: nn.Module, folder: StrPath, format: str, example_shape: Sequence[int], **options: Any
) -> None:
    """Export one network that holds its weights, such as the CNN that `HyperTransformer.export` returns.

    Args:
        network: forward(inputs, **context) → logits.
        folder: the folder to make.
        format: a name in `FORMATS`.
        example_shape: the shape of one input, such as (1, 28, 28).
        **options: further fields of `Export`.

    Raises:
        InputError: see `write_export`.
    """
    write_export(Export([network.eval()], tuple(example_shape), **options), folder, format)
