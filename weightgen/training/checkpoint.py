"""Checkpoints of a run as safetensors files with a checksum; never a pickle. For recipes only."""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_metadata, read_tensors, write_json, write_tensors
from weightgen.training.divergence import Health
from weightgen.training.log import trim_metrics
from weightgen.training.runs import METRICS, RUN, Run, record


class Stateful(Protocol):
    """A module, or whatever else changes in a run; what is no tensor of its state is in its attribute `facts`, if it has one."""

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> Any: ...


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
    tensors = {
        f"{name}/{key}": value for name, part in parts.items() for key, value in part.state_dict().items()
    }
    scalars: dict[str, dict[str, Any]] = {}
    if optimizer is not None:
        for index, values in optimizer.state_dict()["state"].items():
            scalars[str(index)] = {k: v for k, v in values.items() if not isinstance(v, Tensor)}
            tensors |= {f"optimizer/{index}/{k}": v for k, v in values.items() if isinstance(v, Tensor)}
    facts = {name: part.facts for name, part in parts.items() if hasattr(part, "facts")}
    names = _names(parts, optimizer)
    record = json.dumps(
        {"step": step, "facts": facts, "scalars": scalars, "parameters": names}, allow_nan=False
    )
    # One entry: safetensors does not keep the order of several, and equal checkpoints are to have equal bytes.
    metadata = {"checkpoint": json.dumps({"record": record, "sha256": _digest(tensors, record)})}
    write_tensors(path, tensors, metadata=metadata)


def load_checkpoint(path: StrPath, parts: Mapping[str, Stateful], optimizer: Optimizer | None = None) -> int:
    """Put a checkpoint back into `parts` and, if given, `optimizer`, which keeps its own settings.

    Returns:
        The steps done.

    Raises:
        InputError: the file is missing, damaged, no checkpoint, or one of another model.
    """
    tensors, stored = read_tensors(path), read_metadata(path).get("checkpoint")
    if stored is None:
        raise InputError(f"{path} holds tensors, but is not a checkpoint of a training run")
    try:
        text, digest = (json.loads(stored)[key] for key in ("record", "sha256"))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: it does not say what it holds") from error
    if digest != _digest(tensors, text):
        raise InputError(f"{path} is damaged: its checksum is wrong")
    record = json.loads(text)
    try:
        for name, part in parts.items():
            part.load_state_dict(_below(tensors, f"{name}/"))
            if name in record["facts"]:
                part.facts = record["facts"][name]  # type: ignore[attr-defined]
        if optimizer is not None:
            _check_order(record["parameters"], _names(parts, optimizer))
            state = {
                int(index): scalars | _below(tensors, f"optimizer/{index}/")
                for index, scalars in record["scalars"].items()
            }
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{path} is a checkpoint of another model: {str(error):.200}") from error
    return int(record["step"])


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the newest first."""
    numbered = [
        (re.fullmatch(r"checkpoint-(\d+)\.safetensors", path.name), path) for path in folder.glob("*")
    ]
    return [path for _, path in sorted(((int(m[1]), p) for m, p in numbered if m), reverse=True)]


def write_checkpoint(run: Run) -> None:
    """Write the checkpoint of the steps done, and remove those that are too many; the main process does it for all."""
    if run.accelerator.is_main_process:
        path = run.folder / f"checkpoint-{run.done:08d}.safetensors"
        save_checkpoint(path, run.parts, run.optimizer, run.done)
        for old in checkpoints(run.folder)[run.keep_checkpoints :]:
            old.unlink()


def resume(run: Run, optimizer: Optimizer | None = None, **parts: Any) -> None:
    """Say what changes in a run, and go on from its newest checkpoint if there is one.

    Args:
        run: the run.
        optimizer: its optimiser.
        **parts: modules, averages and `Best` by name: all that has to be stored for the run to go on.

    Raises:
        InputError: a checkpoint of another model, or too little room on the disk.
    """
    run.health = Health(optimizer)
    run.parts, run.optimizer = parts | {"health": run.health}, optimizer
    _check_room(run)
    _read_newest(run)
    if run.phases[-1]["from_step"] is None:
        run.phases[-1]["from_step"] = run.done
    if run.accelerator.is_main_process:
        write_json(run.folder / RUN, record(run))
        trim_metrics(run.folder / METRICS, run.done)
        if run.done:
            print(f"{run.name}: goes on after step {run.done}", file=sys.stderr)
    run.accelerator.wait_for_everyone()


def _read_newest(run: Run) -> None:
    """Go on from the newest checkpoint that is whole; damaged ones are reported."""
    for path in checkpoints(run.folder):
        try:
            run.done = load_checkpoint(path, run.parts, run.optimizer)
        except InputError as error:
            if "another model" in str(error):
                raise
            print(f"warning: {error}; the one before it is used", file=sys.stderr)
        else:
            return


def _check_room(run: Run) -> None:
    """Refuse to begin where the checkpoints will not fit: parameters, and twice as much for an optimiser such as Adam."""
    states = [value for part in run.parts.values() for value in part.state_dict().values()]
    trained = run.optimizer.param_groups if run.optimizer is not None else []
    size = sum(value.nbytes for value in states) + 2 * sum(p.nbytes for g in trained for p in g["params"])
    needed, free = size * (run.keep_checkpoints + 1), shutil.disk_usage(run.folder).free
    if needed > free:
        raise InputError(
            f"{run.folder} needs about {needed / 1e9:.1f} GB for checkpoints, and {free / 1e9:.1f} GB are free: "
            "make room, choose another output, or write keep_checkpoints=1"
        )


def _digest(tensors: Mapping[str, Tensor], record: str) -> str:
    found = hashlib.sha256(record.encode())
    for name, value in sorted(tensors.items()):
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


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
