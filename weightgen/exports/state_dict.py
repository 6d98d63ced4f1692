"""Safetensors files of the parameters by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from weightgen.storage.files import write_tensors
from weightgen.storage.hub import SavedModule

if TYPE_CHECKING:
    from weightgen.exports.export import Export


def sample_folder(folder: Path, number: int, samples: int) -> Path:
    """Where network `number` lies: the folder itself for one network, a folder for each of several."""
    return folder if samples == 1 else folder / f"sample_{number}"


def write_state_dict(export: Export, folder: Path) -> dict[str, Any]:
    """Write `model.safetensors`, all parameters and buffers by name, and `context.safetensors`.

    A network of weightgen is written with its `config.json`, so that `Kind.from_pretrained(folder)` reads it.
    """
    for number, network in enumerate(export.networks):
        place = sample_folder(folder, number, len(export.networks))
        if isinstance(network, SavedModule):
            network.save_pretrained(place)
        else:
            _write(network, place)
    if export.context:
        write_tensors(folder / "context.safetensors", export.context)
    return {}


def _write(network: nn.Module, place: Path) -> None:
    place.mkdir(exist_ok=True)
    write_tensors(place / "model.safetensors", network.state_dict(), metadata={"format": "pt"})
