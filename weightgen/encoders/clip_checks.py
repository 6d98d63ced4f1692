"""What the folder of a CLIP may say: nothing that goes to the network, runs code, or takes more memory than its file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from weightgen.errors import MAX_LAYERS, InputError, check_sizes
from weightgen.storage.files import StrPath, read_json, read_shapes

MAX_CONTEXT = 4096  # tokens of a text: a mask of so many squared is made
MAX_SIDE = 4096  # pixels
SIZES = {
    "context_length": MAX_CONTEXT,
    "image_size": MAX_SIDE,
    "layers": MAX_LAYERS,
    "heads": MAX_LAYERS,
    "patch_size": MAX_SIDE,
    "width": 100_000,
    "head_width": 100_000,
    "vocab_size": 10_000_000,
}


def check_folder(folder: Path) -> None:
    """Refuse a folder whose JSON files name code of their author (`auto_map`), or ask to trust it.

    Raises:
        InputError: naming the file.
    """
    for path in sorted(folder.rglob("*.json")):
        if path.stat().st_size > 50_000_000:  # no configuration; the largest vocabularies have some 10 MB
            raise InputError(f"{path} has {path.stat().st_size / 1e6:.0f} MB: expected at most 50")
        if path.name in ("tokenizer.json", "vocab.json") or path.name.endswith(".index.json"):
            continue
        for key in _keys(read_json(path)):
            if key in ("auto_map", "trust_remote_code", "custom_pipelines"):
                raise InputError(
                    f"{path} has {key!r}: code that comes with a model is not run; take it out of the file"
                )


def _keys(content: Any) -> Iterator[str]:
    """All keys of all objects in a JSON value."""
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from value
            left += value.values()
        elif isinstance(value, list):
            left += value


def check_config(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse names of the network, and sizes that no CLIP has.

    Args:
        config: open_clip's `model_cfg`, with dictionaries `vision_cfg` and `text_cfg`.
        folder: where it lies.

    Raises:
        InputError: naming the entry.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    check_sizes(embed_dim=config["embed_dim"])
    for part in (vision, text):
        for name in SIZES.keys() & part.keys():
            value = part[name]
            check_sizes(1, SIZES[name], **{name: value})
    name = text.get("hf_model_name")
    if name and not (isinstance(name, str) and (folder / name / "config.json").is_file()):
        raise InputError(
            f"{folder} names the text model {name!r:.80}, which is no folder with a config.json: names of models on the network "
            "are not read from a folder; put the model's configuration into it"
        )
    name = vision.get("timm_model_name")
    if name and not _is_timm(name):
        raise InputError(
            f"{folder} names the image tower {name!r:.80}: expected one that timm has itself, not one of the network or of a path"
        )


def check_inside(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a text model outside of the folder, which a saved CLIP never has.

    Raises:
        InputError: naming it.
    """
    name = config["text_cfg"].get("hf_model_name")
    if name and not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder} names the text model {name!r:.80}, which lies outside of it")


def check_memory(blank: nn.Module, weights: StrPath) -> None:
    """Refuse a model that has far more numbers than the file of its weights.

    Args:
        blank: the model, built without memory.
        weights: a safetensors file.

    Raises:
        InputError: it has.
    """
    needed = sum(value.numel() for value in blank.state_dict().values())
    there = sum(math.prod(shape) for shape, _ in read_shapes(weights).values())
    if needed > 2 * there + 1000:  # positional embeddings may be resized
        raise InputError(
            f"{weights} does not hold the weights of this CLIP: its configuration asks for {needed:,} numbers, the file has {there:,}"
        )


def _is_timm(name: Any) -> bool:
    import timm

    return isinstance(name, str) and ":" not in name and timm.is_model(name.split(".")[0])
