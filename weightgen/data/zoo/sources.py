"""Trained networks in a folder: state dictionaries in safetensors, and PEFT adapters. Nothing of a folder is ever run.

FOLDER/NAME.safetensors                                        a state dictionary
FOLDER/NAME/adapter_config.json, adapter_model.safetensors     an adapter; NAME may have folders in it
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from weightgen.errors import InputError
from weightgen.storage.files import kind_of, read_object, read_tensors
from weightgen.storage.limits import check_bytes

CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
SAME = (
    *("peft_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "rank_pattern"),
    *("alpha_pattern", "use_rslora", "use_dora", "bias", "fan_in_fan_out", "modules_to_save"),
)
"""What must be the same in the configurations of all adapters of a zoo."""
KNOWN = ("transformers", "torch", "diffusers", "timm", "open_clip", "sentence_transformers", "weightgen")
"""Libraries whose classes an adapter may name: they are not imported here, but by whoever loads an adapter later."""
RUNNING = ("running_mean", "running_var", "num_batches_tracked")
_CODE = ("auto_map", "trust_remote_code", "custom_pipelines")


class Network(NamedTuple):
    """A trained network on disk.

    Attributes:
        name: its path below the folder, without the ending.
        file: of its tensors.
        config: of an adapter; empty for a state dictionary.
    """

    name: str
    file: Path
    config: dict[str, Any]


def find_networks(folder: Path, trust_remote_code: bool = False) -> list[Network]:
    """All networks in a folder and the folders in it, by name.

    Raises:
        InputError: there are fewer than two, or an adapter that is incomplete, a pickle, or asks for code.
    """
    if kind_of(folder) != "folder":
        raise InputError(
            f"no folder {folder}: expected trained networks in it, as safetensors or PEFT adapters"
        )
    found = []
    for path in sorted(folder.rglob("*")):
        if path.name == CONFIG:
            name = path.parent.relative_to(folder).as_posix()
            found.append(Network(name, path.parent / ADAPTER, _config(path, trust_remote_code)))
        elif path.suffix == ".safetensors" and not (path.parent / CONFIG).is_file():
            found.append(Network(path.relative_to(folder).with_suffix("").as_posix(), path, {}))
    if len(found) < 2:
        state = "one network" if found else "no networks, as NAME.safetensors or as PEFT folders"
        raise InputError(
            f"{folder} has {state}: a zoo needs at least two, of which there is something to learn"
        )
    for network in found:
        if not network.name.isprintable():  # also what is not UTF-8
            raise InputError(f"{network.name[:80]!a} is a name that cannot be written down: rename the file")
        if kind_of(network.file) == "file":
            check_bytes(network.file.stat().st_size, str(network.file))
    for other in found[1:]:
        _compare(found[0], other)
    return sorted(found)


def _config(path: Path, trust_remote_code: bool) -> dict[str, Any]:
    """The configuration of an adapter."""
    config, folder = read_object(path), path.parent
    if not (folder / ADAPTER).is_file():
        pickle = " (adapter_model.bin is a pickle, which may run code)"
        why = pickle if (folder / "adapter_model.bin").exists() else ""
        raise InputError(f"{folder} has no {ADAPTER}{why}: save the adapter as safetensors")
    if trust_remote_code:
        return config
    if code := next((file.name for file in sorted(folder.rglob("*.py"))), None):
        raise InputError(f"{folder} brings code, {code}: if you trust its author, write --trust-remote-code")
    for key in _CODE:
        if config.get(key):
            raise InputError(
                f"{path} asks for code, by {key}: if you trust its author, write --trust-remote-code"
            )
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else mapping
    if mapping and str(library).partition(".")[0] not in KNOWN:
        raise InputError(
            f"{path} asks for the code of {str(library)[:60]!r}, by auto_mapping: if you trust its author, write --trust-remote-code"
        )
    return config


def _compare(first: Network, other: Network) -> None:
    """Refuse an adapter of another kind than the first one."""
    if bool(first.config) != bool(other.config):
        raise InputError(
            f"{first.name!r} and {other.name!r} are of two kinds: an adapter and a state dictionary"
        )
    for key in SAME:
        one, two = (_plain(network.config.get(key)) for network in (first, other))
        if one != two:
            raise InputError(
                f"the adapters differ in {key}: {first.name!r} has {one!s:.80}, {other.name!r} has {two!s:.80}; "
                "a zoo holds adapters of one form"
            )


def _plain(value: Any) -> Any:
    """A list as a sorted one: the order of target modules means nothing."""
    return sorted(map(str, value)) if isinstance(value, list) else value or None


def read_network(network: Network) -> dict[str, Tensor]:
    """The tensors of a network, in the order of their names.

    Raises:
        InputError: a damaged file, running statistics, integers, or numbers that are not finite.
    """
    tensors = read_tensors(network.file)
    for name, value in sorted(tensors.items()):
        if name.endswith(RUNNING):
            raise InputError(
                f"{network.file} has running statistics, {name!r}, which no weight vector can hold: train with "
                "track_running_stats=False, or with GroupNorm"
            )
        if not value.is_floating_point():
            raise InputError(
                f"{network.file} has integers in {name!r}: expected floating-point weights alone"
            )
        if not value.isfinite().all():
            raise InputError(
                f"{network.file} holds NaN or infinite numbers in {name!r}: leave this network out"
            )
    if not tensors:
        raise InputError(f"{network.file} has no tensors")
    return dict(sorted(tensors.items()))


def check_like(network: Network, tensors: dict[str, Tensor], first: Network, like: dict[str, Tensor]) -> None:
    """Refuse a network whose layers differ from those of the first one.

    Raises:
        InputError: naming the first layer that differs in name, shape or type.
    """
    for name in sorted(tensors.keys() | like.keys()):
        if name not in tensors or name not in like:
            has, lacks = (network.name, first.name) if name in tensors else (first.name, network.name)
            raise InputError(
                f"{has!r} has a layer {name!r}, and {lacks!r} has not: a zoo holds one architecture"
            )
        for what in ("shape", "dtype"):
            one, two = (getattr(found[name], what) for found in (like, tensors))
            if one != two:
                shown = [tuple(value) if what == "shape" else value for value in (one, two)]
                raise InputError(
                    f"layer {name!r} has {what} {shown[0]} in {first.name!r} and {shown[1]} in {network.name!r}: "
                    "a zoo holds one architecture"
                )
