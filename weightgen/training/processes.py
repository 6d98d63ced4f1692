"""Several processes of one run: what they must be like, and how all of them learn what one has found. For recipes only."""

import os
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list

from weightgen.errors import InputError


def check_precision(name: str) -> None:
    """Refuse an unknown `mixed_precision`.

    Raises:
        InputError: see above.
    """
    if name not in ("no", "bf16"):
        raise InputError(f"expected mixed_precision=no or mixed_precision=bf16, got {name!r}")
    given = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if given not in ("no", name):
        raise InputError(
            f"the launcher asks for mixed_precision={given}, and the recipe for {name}: write mixed_precision as a setting of the recipe"
        )


def new_accelerator(mixed_precision: str) -> Accelerator:
    """The processes and devices of a run, with the precision of its settings, also after a run of another one in the same process."""
    if AcceleratorState._shared_state.get("_mixed_precision", mixed_precision) != mixed_precision:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision)


def check_processes(
    accelerator: Accelerator, batch_size: int | None, limit: int | None = None, parts: int = 1
) -> None:
    """Refuse ways to compute that would change what is learned.

    Args:
        accelerator: processes, devices and precision.
        batch_size: examples in a step of all processes together; None where there is no such number.
        limit: how many processes the recipe can use; None sets no limit.
        parts: in which each process computes its share of a batch.

    Raises:
        InputError: gradient accumulation that the recipe does not know of, or too many processes or parts.
    """
    number = accelerator.num_processes
    if accelerator.gradient_accumulation_steps != 1:
        raise InputError(
            f"the launcher asks for gradient_accumulation_steps={accelerator.gradient_accumulation_steps}: write it as a setting of the "
            "recipe; batch_size stays the whole batch of a step"
        )
    if limit is not None and number > limit:
        raise InputError(f"this recipe uses {limit} process, got {number}: start it without a launcher")
    if batch_size is not None and batch_size < number * parts:
        of = (
            f"all {number} processes"
            if parts == 1
            else f"{number} process{'es' * (number > 1)} with {parts} parts"
        )
        raise InputError(
            f"batch_size={batch_size} counts the examples of {of}: write batch_size={number * parts} or more"
        )


def on_main(accelerator: Accelerator, work: Callable[[], None]) -> None:
    """Do something in the main process, while the others wait; where it ends with an error of the user or exits, all do.

    Raises:
        InputError: in all processes, where `work` raises it.
        SystemExit: likewise.
    """
    raised: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            work()
        except (InputError, SystemExit) as error:
            raised = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(raised)
    if raised[0] is not None:
        raise raised[0]


def speaks() -> bool:
    """Whether this process is the one that tells of an error: the first that meets one."""
    if not dist.is_initialized():
        return os.environ.get("RANK", "0") == "0"
    try:
        return bool(dist.distributed_c10d._get_default_store().add("weightgen/errors", 1) == 1)
    except RuntimeError:  # the main process, which holds the store, has told of it and is gone
        return False
