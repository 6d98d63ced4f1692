"""Folders that `PeftModel.from_pretrained` of the `peft` library loads onto the base model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightgen.errors import InputError, needs
from weightgen.exports.state_dict import sample_folder
from weightgen.networks.named_parameters import NamedParameters
from weightgen.storage.files import write_json, write_tensors

if TYPE_CHECKING:
    from weightgen.exports.export import Export


def write_peft(export: Export, folder: Path) -> dict[str, Any]:
    """Write `adapter_config.json` and `adapter_model.safetensors`, for each network.

    Raises:
        InputError: a network has no low-rank adapters.
    """
    with needs("peft"):
        from peft import PeftModel

    for number, network in enumerate(export.networks):
        place = sample_folder(folder, number, len(export.networks))
        if isinstance(network, NamedParameters) and network.adapter_config is not None:
            place.mkdir(exist_ok=True)
            write_json(place / "adapter_config.json", dict(network.adapter_config))
            write_tensors(place / "adapter_model.safetensors", network.state_dict(), {"format": "pt"})
            continue
        if not isinstance(network, PeftModel):
            raise InputError(
                f"{type(network).__name__} has no low-rank adapters: format='peft' is for networks of lora_target and zoos of adapters; "
                "write format='state_dict'"
            )
        network.save_pretrained(str(place))
    return {}
