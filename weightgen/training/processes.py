"""Several processes of one run: what they must be like, and how all of them learn what one has found. For recipes only."""

import os
from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from weightgen.errors import InputError


def check_processes(accelerator: Accelerator, batch_size: int | None, limit: int | None = None) -> None:
    """Refuse ways to compute that would change what is learned.

    Args:
        accelerator: processes, devices and precision.
        batch_size: examples in a step of all processes together; None where there is no such number.
        limit: how many processes the recipe can use; None sets no limit.

    Raises:
        InputError: gradient accumulation, mixed precision, or too many processes.
    """
    number = accelerator.num_processes
    if accelerator.gradient_accumulation_steps != 1:
        raise InputError(
            f"expected gradient_accumulation_steps=1, got {accelerator.gradient_accumulation_steps}: batch_size is the "
            "whole batch of a step; with less memory, use more processes"
        )
    if accelerator.mixed_precision != "no":
        raise InputError(
            f"expected mixed_precision=no, got {accelerator.mixed_precision}: recipes train in single precision only"
        )
    if limit is not None and number > limit:
        raise InputError(f"this recipe uses {limit} process, got {number}: start it without a launcher")
    if batch_size is not None and batch_size < number:
        raise InputError(
            f"batch_size={batch_size} counts the examples of all {number} processes: write batch_size={number} or more"
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
