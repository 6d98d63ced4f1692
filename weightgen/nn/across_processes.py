"""Sums, means and maxima over a batch that several processes share, each with some of its examples.

In one process they are the plain mean, the tensor itself, and the plain maximum. In several, all of them must call the same functions in
the same order. Gradients are those of the whole batch once they are averaged over the processes, as DDP and FSDP do.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes, which all compute the same from it on."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every process has the gradient of its own part; times their number, the average over them is the sum.
        return grads[0] * processes()


def shared_mean(values: Tensor, real: Tensor | None = None) -> Tensor:
    """The mean of all numbers, over the rows of all processes.

    Args:
        values: with shape (B, *), the rows of this process.
        real: which rows count, with shape (B,). A process that has none left computes one that does not count. All by default, and in one
            process.

    Returns:
        A scalar, the same in every process.
    """
    if processes() == 1:
        return values.mean()
    rows = values.flatten(1).mean(dim=1) if values.ndim > 1 else values
    weight = torch.ones_like(rows) if real is None else real.to(rows.dtype)
    count = weight.sum()
    dist.all_reduce(count)
    total: Tensor = _Sum.apply((rows * weight).sum())
    return total / count.clamp_min(1)


def gather_rows(values: Tensor) -> Tensor:
    """The rows (B, *) of all processes in the order of the whole batch, of which process p of n has rows p, p + n, and so on."""
    number = processes()
    if number == 1:
        return values
    count = torch.tensor(len(values), device=values.device)
    dist.all_reduce(count)
    whole = values.new_zeros(int(count), *values.shape[1:])
    whole[dist.get_rank() :: number] = values
    found: Tensor = _Sum.apply(whole)
    return found


def shared_max(value: Tensor) -> int:
    """The largest of an integer of each process."""
    if processes() > 1:
        value = value.clone()
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value)
