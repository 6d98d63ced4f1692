"""Checkpoints of a run as safetensors files with a checksum; never a pickle. For recipes only."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from weightgen.errors import InputError
from weightgen.storage.files import (
    StrPath,
    read_metadata,
    write_tensors,
)
from weightgen.storage.parts import read_names, read_tensor
from weightgen.training.sharding import like, piece, whole


class Stateful(Protocol):
    """A module, or whatever else changes in a run; what is no tensor of its state is in its attribute `facts`, if it has one."""

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> Any: ...


@runtime_checkable
class KeptInFiles(Protocol):
    """A part whose state lies in files beside the checkpoints, which say in its `facts` which file is theirs."""

    module: nn.Module

    def check(self, facts: Mapping[str, Any]) -> None: ...

    def keep(self, facts: list[Mapping[str, Any]]) -> None: ...


def save_checkpoint(
    path: StrPath, parts: Mapping[str, Stateful], optimizer: Optimizer | None, step: int
) -> None:
    """Write all that changes in a run into one safetensors file, which appears whole or not at all.

    Args:
        path: the file.
        parts: what is trained, averages of it, the best state, by name.
        optimizer: its state is stored as tensors and JSON.
        step: steps done.
    """
    write_collected(path, *collected(parts, optimizer, step))


def collected(
    parts: Mapping[str, Stateful], optimizer: Optimizer | None, step: int
) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint, put together of the pieces of all processes, which must all call this; and the rest as JSON."""
    own, shared = own_tensors(parts)
    tensors = {name: whole(value) for name, value in own.items()}
    scalars: dict[str, dict[str, Any]] = {}
    if optimizer is not None:
        for index, values in optimizer.state_dict()["state"].items():
            scalars[str(index)] = {k: v for k, v in values.items() if not isinstance(v, Tensor)}
            tensors |= {
                f"optimizer/{index}/{k}": whole(v) for k, v in values.items() if isinstance(v, Tensor)
            }
    facts = {name: part.facts for name, part in parts.items() if hasattr(part, "facts")}
    names = _names(parts, optimizer)
    record = json.dumps(
        {"step": step, "facts": facts, "scalars": scalars, "parameters": names, "shared": shared},
        allow_nan=False,
    )
    return tensors, record


def own_tensors(parts: Mapping[str, Stateful]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of all parts by part/name; those that lie in the memory of another one are not among them, but name that one."""
    own: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    places: dict[tuple[Any, ...], str] = {}
    for part_name, part in parts.items():
        for key, value in part.state_dict().items():
            name, place = f"{part_name}/{key}", (piece(value).data_ptr(), value.shape, value.dtype)
            if value.numel() and place in places:
                shared[name] = places[place]
            else:
                own[name] = value
                places[place] = name
    return own, shared


def write_collected(path: StrPath, tensors: dict[str, Tensor], record: str) -> None:
    """Write what `collected` found, with a checksum."""
    # One entry: safetensors does not keep the order of several, and equal checkpoints are to have equal bytes.
    metadata = {
        "checkpoint": json.dumps({"record": record, "sha256": _digest(sorted(tensors.items()), record)})
    }
    write_tensors(path, tensors, metadata=metadata)


def load_checkpoint(path: StrPath, parts: Mapping[str, Stateful], optimizer: Optimizer | None = None) -> int:
    """Put a checkpoint back into `parts` and, if given, `optimizer`, which keeps its own settings.

    Returns:
        The steps done.

    Raises:
        InputError: the file is missing, damaged, no checkpoint, or one of another model.
    """
    record = read_record(path)
    check_parts(path, parts, record["facts"])
    return put_back(path, record, parts, optimizer)


def put_back(
    path: StrPath, record: Mapping[str, Any], parts: Mapping[str, Stateful], optimizer: Optimizer | None
) -> int:
    """What `load_checkpoint` does with a checkpoint that is whole."""
    places = {name: name for name in read_names(path)} | record.get("shared", {})
    try:
        for name, part in parts.items():
            _put_back_part(path, part, _below(places, f"{name}/"))
            if name in record["facts"]:
                part.facts = record["facts"][name]  # type: ignore[attr-defined]
        if optimizer is not None:
            _check_order(record["parameters"], _names(parts, optimizer))
            states = dict(_optimizer_states(path, record["scalars"], optimizer, places))
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states, "param_groups": groups})
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{path} is a checkpoint of another model: {str(error):.200}") from error
    return int(record["step"])


def _put_back_part(path: StrPath, part: Stateful, places: Mapping[str, str]) -> None:
    """Give a part its tensors, a module one after another, so that no more than one is in memory beside it.

    Args:
        path: the file.
        part: the part.
        places: the name in the file of each tensor of the part.
    """
    present = part.state_dict()
    if not isinstance(part, nn.Module):
        part.load_state_dict(
            {key: like(read_tensor(path, place), present.get(key)) for key, place in places.items()}
        )
        return
    if unlike := present.keys() ^ places.keys():
        raise RuntimeError(f"the tensor {min(unlike)!r} is in one of them alone")
    for key, place in places.items():
        part.load_state_dict({key: like(read_tensor(path, place), present[key])}, strict=False)


def read_record(path: StrPath) -> dict[str, Any]:
    """What a checkpoint says beside its tensors, all of which are compared with its checksum.

    Raises:
        InputError: the file is missing, damaged or no checkpoint.
    """
    stored = read_metadata(path).get("checkpoint")
    if stored is None:
        raise InputError(f"{path} holds tensors, but is not a checkpoint of a training run")
    try:
        text, digest = (json.loads(stored)[key] for key in ("record", "sha256"))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: it does not say what it holds") from error
    if digest != _digest(((name, read_tensor(path, name)) for name in read_names(path)), text):
        raise InputError(f"{path} is damaged: its checksum is wrong")
    record: dict[str, Any] = json.loads(text)
    return record


def check_parts(path: StrPath, parts: Mapping[str, Stateful], facts: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose parts in files are damaged, before anything is taken from it."""
    for name, part in parts.items():
        if isinstance(part, KeptInFiles):
            if name not in facts:
                raise InputError(f"{path} is a checkpoint of another model: it has no {name}")
            part.check(facts[name])


def _optimizer_states(
    path: StrPath, scalars: Mapping[str, dict[str, Any]], optimizer: Optimizer, places: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the optimiser knows of each of its parameters. Copies: else all of the file would stay in memory."""
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, numbers in scalars.items():
        stored = {
            key: like(read_tensor(path, place).clone(), trained[int(index)])
            for key, place in _below(places, f"optimizer/{index}/").items()
        }
        yield int(index), numbers | stored


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the newest first."""
    numbered = [
        (re.fullmatch(r"checkpoint-(\d+)\.safetensors", path.name), path) for path in folder.glob("*")
    ]
    return [path for _, path in sorted(((int(m[1]), p) for m, p in numbered if m), reverse=True)]


def _digest(tensors: Iterable[tuple[str, Tensor]], record: str) -> str:
    """A checksum of tensors, in the order of their names, and of the record."""
    found = hashlib.sha256(record.encode())
    for name, value in tensors:
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _names(parts: Mapping[str, Stateful], optimizer: Optimizer | None) -> list[str]:
    """What the optimizer's parameters are called in `parts`, in its own order."""
    modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    known = {id(p): f"{name}/{key}" for name, part in modules.items() for key, p in part.named_parameters()}
    groups = optimizer.param_groups if optimizer is not None else []
    return [known.get(id(p), "no name") for group in groups for p in group["params"]]


def _check_order(before: list[str], now: list[str]) -> None:
    """An optimizer knows its parameters by their order alone: it would use the state of one for another."""
    for index, (old, new) in enumerate(zip_longest(before, now, fillvalue="missing")):
        if old != new:
            raise ValueError(f"parameter {index} of the optimizer was {old} and is {new}")


def _below(places: Mapping[str, str], prefix: str) -> dict[str, str]:
    """The entries whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): place for name, place in places.items() if name.startswith(prefix)}
