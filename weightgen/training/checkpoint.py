"""Checkpoints of a run as one safetensors file, and its log as lines of JSON. For recipes only."""

import json
import math
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_metadata, read_tensors, write_tensors, written_beside


def save_checkpoint(
    path: StrPath,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    step: int,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write all that changes in a run into one safetensors file, which replaces its predecessor in one move.

    Args:
        path: the file.
        modules: what is trained, and averages of it, by name.
        optimizer: its state is stored as tensors and JSON, never as a pickle.
        step: steps done.
        extra: anything else that JSON can hold.
    """
    tensors = {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        scalars[str(index)] = {key: value for key, value in values.items() if not isinstance(value, Tensor)}
        tensors |= {f"optimizer/{index}/{key}": v for key, v in values.items() if isinstance(v, Tensor)}
    record = {"step": step, "extra": dict(extra or {}), "groups": state["param_groups"], "scalars": scalars,
              "parameters": _names(modules, optimizer)}  # fmt: skip
    write_tensors(path, tensors, metadata={"checkpoint": json.dumps(record, allow_nan=False)})


def load_checkpoint(
    path: StrPath, modules: Mapping[str, nn.Module], optimizer: Optimizer | None = None
) -> tuple[int, dict[str, Any]]:
    """Put a checkpoint back into `modules` and, if given, `optimizer`.

    Returns:
        The steps done, and the extra values.

    Raises:
        InputError: the file is missing, damaged, no checkpoint, or one of another model.
    """
    tensors = read_tensors(path)
    text = read_metadata(path).get("checkpoint")
    if text is None:
        raise InputError(f"{path} holds tensors, but is not a checkpoint of a training run")
    record = json.loads(text)
    try:
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"{name}/"))
        if optimizer is not None:
            _check_order(record.get("parameters", []), _names(modules, optimizer))
            state = {
                int(index): scalars | _below(tensors, f"optimizer/{index}/")
                for index, scalars in record["scalars"].items()
            }
            optimizer.load_state_dict({"state": state, "param_groups": record["groups"]})
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} is a checkpoint of another model: {str(error):.200}") from error
    return record["step"], record["extra"]


def _names(modules: Mapping[str, nn.Module], optimizer: Optimizer) -> list[str]:
    """What the optimizer's parameters are called in `modules`, in its own order."""
    known = {
        id(p): f"{name}/{key}" for name, module in modules.items() for key, p in module.named_parameters()
    }
    return [known.get(id(p), "no name") for group in optimizer.param_groups for p in group["params"]]


def _check_order(before: list[str], now: list[str]) -> None:
    """An optimizer knows its parameters by their order alone, and would use the state of one for another without a word."""
    for index, (old, new) in enumerate(zip_longest(before, now, fillvalue="missing")):
        if old != new:
            raise ValueError(f"parameter {index} of the optimizer was {old} and is {new}")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def log_metrics(path: StrPath, step: int, metrics: Mapping[str, Tensor | float]) -> None:
    """Append one line of JSON to `path`; what is not finite becomes null."""
    values = {name: float(value) for name, value in metrics.items()}
    row = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_metrics(path: StrPath) -> list[dict[str, Any]]:
    """The rows of a log, without a last line that was cut off; none if there is no log yet."""
    if not Path(path).exists():
        return []
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def trim_metrics(path: StrPath, step: int) -> None:
    """Drop the rows after `step`, which a run that goes on from there will write again."""
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    with written_beside(path, overwrite=True) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
