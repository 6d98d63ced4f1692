"""What every training recipe needs besides its loop: functions, no trainer. For recipes only.

A run can stop after any step and go on bit for bit as if it had not: whatever changes is in the checkpoint,
or is a function of the step, as the batch (`weightgen.tasks.TaskBatchSampler`), the learning rate
(`warmup_cosine`) and the randomness (`seed_step`) are.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from weightgen.errors import InputError


def seed_step(seed: int, step: int, process: int = 0) -> None:
    """Make torch's randomness a function of (seed, step, process): call it first in every step."""
    if seed < 0:
        raise InputError(f"expected a seed from 0 up, got {seed}")
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0]))


def rows_of_process(rows: Sequence[int], process: int, processes: int) -> Sequence[int]:
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
