"""What every training recipe needs besides its loop: functions, no trainer. For recipes only.

A run can stop after any step and go on bit for bit as if it had not: whatever changes is in the checkpoint,
or is a function of the step, as the batch (`weightgen.tasks.TaskBatchSampler`), the learning rate
(`warmup_cosine`) and the randomness (`seed_step`) are.
"""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from weightgen.errors import InputError
from weightgen.files import StrPath, read_metadata, read_tensors, write_tensors, written_beside


def seed_step(seed: int, step: int, process: int = 0) -> None:
    """Make torch's randomness a function of (seed, step, process): call it first in every step."""
    if seed < 0:
        raise InputError(f"expected a seed from 0 up, got {seed}")
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0]))


def share_of(rows: Sequence[int], process: int, processes: int) -> Sequence[int]:
    """The rows of a batch that one of several processes learns from; where there are fewer rows than processes, some come twice.

    All processes must take part in every step, or the others would wait for them forever.
    """
    return rows[process::processes] or [rows[process % len(rows)]]


def check_finite(loss: Tensor, step: int, name: str = "loss") -> None:
    """Stop a run whose loss is NaN or infinite.

    Raises:
        InputError: naming the loss and the step.
    """
    if not torch.isfinite(loss).all():
        raise InputError(
            f"{name} became {loss.detach().mean().item()} at step {step}: training stops; "
            "try a lower learning rate, or look for such values in the data"
        )


def warmup_cosine(step: int, steps: int, warmup: int = 0) -> float:
    """A factor on the learning rate: a rise over `warmup` steps, then half a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Use `lr` for all parameters from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def ema(module: nn.Module, decay: float = 0.9999) -> AveragedModel:
    """An exponential moving average: call `update_parameters(module)` after each step, then use `.module`.

    The decay starts low, as (1 + n) / (10 + n) after n updates, so that a short run does not average in its
    start. Buffers are copied.
    """

    def average(kept: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
        return torch.lerp(new, kept, min(decay, (1 + int(updates)) / (10 + int(updates))))

    averaged = AveragedModel(module, avg_fn=average)
    return averaged.requires_grad_(False)


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
