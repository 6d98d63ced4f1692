"""Learning rates as functions of the step: a run that goes on needs no state of a schedule. For recipes only."""

import math
from functools import lru_cache
from typing import Any

import torch

from weightgen.errors import InputError

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
"""Names of diffusers' `get_scheduler` that need no further arguments."""


def learning_rate(cfg: Any, step: int, warmup: int = 0, factor: float | None = None) -> float:
    """The learning rate of a step: `cfg.lr` times a factor.

    Args:
        cfg: the settings of a run: lr, steps, lr_scheduler and lr_warmup_steps.
        step: number of the step, from 0.
        warmup: the recipe's warm-up steps.
        factor: the recipe's own factor, where lr_scheduler is None; by default that of `warmup_cosine`.
    """
    if cfg.lr_warmup_steps is not None:
        warmup = cfg.lr_warmup_steps
    if cfg.lr_scheduler is not None:
        factor = _schedule(cfg.lr_scheduler, cfg.steps, warmup, cfg.lr).lr_lambdas[0](step)
    elif factor is None:
        factor = warmup_cosine(step, cfg.steps, warmup)
    return float(cfg.lr * factor)


def check_schedule(name: str | None) -> None:
    """Refuse an unknown schedule.

    Raises:
        InputError: see above.
    """
    if name is not None and name not in SCHEDULES:
        raise InputError(
            f"expected an lr_scheduler of {', '.join(SCHEDULES)}, or null for the recipe's own, got {name!r}"
        )


def warmup_cosine(step: int, steps: int, warmup: int = 0) -> float:
    """A factor on the learning rate: a rise over `warmup` steps, then half a cosine down to 0 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup, 1), 1.0)))


@lru_cache
def _schedule(name: str, steps: int, warmup: int, lr: float) -> Any:
    from diffusers.optimization import get_scheduler  # takes longer to import than a recipe needs to start

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
