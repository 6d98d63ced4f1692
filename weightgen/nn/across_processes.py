"""Sums, means and maxima over a batch that is computed in shares: by several processes, by one after the other, or both.

Where the batch is whole, they are the plain mean, the tensor itself, and the plain maximum. Shares of several processes must call the same
functions in the same order. Gradients are those of the whole batch once they are averaged over the processes, as DDP and FSDP do, and
added up over the shares of each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Shares:
    """What the shares of one process contribute to each sum, so that every share can be computed with those of the whole batch.

    Every share is computed twice: first to learn its contributions (`learn`), then with the totals (`use`).

    Args:
        count: shares of each process. Share s of process p has the rows p · count + s, and every (processes · count)-th after it.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.learned: list[list[tuple[str, Tensor]]] = []
        self.totals: list[Tensor] = []
        self.present: int | None = None  # the share that is computed with the totals
        self.calls = 0

    @contextmanager
    def learn(self) -> Iterator[None]:
        """Note the contributions of the next share, of which only the maxima of an earlier turn are known."""
        self.present, self.calls = None, 0
        self.learned.append([])
        with _computed(self):
            yield

    @contextmanager
    def use(self, share: int) -> Iterator[None]:
        """Compute a share with the totals."""
        self.present, self.calls = share, 0
        with _computed(self):
            yield

    def add_up(self) -> bool:
        """Make totals of what was learned. Returns whether all are known: not if shares were computed with a maximum of their own."""
        calls, before = [*zip(*self.learned, strict=True)], self.totals
        maxima_known = bool(before) or all(parts[0][0] != "max" for parts in calls)
        self.learned, self.totals = [], []
        for number, parts in enumerate(calls):
            kind, values = parts[0][0], [value for _, value in parts]
            if kind == "max":
                most = torch.stack(values).max()
                self.totals.append(before[number] if before else _over_processes(most, dist.ReduceOp.MAX))
            elif not maxima_known:  # the shapes of shares may depend on them
                self.totals.append(values[0])
            else:
                own = sum(values[1:], values[0]) if kind == "sum" else self._placed(values)
                self.totals.append(_over_processes(own))
        return maxima_known

    def total(self, kind: str, values: Tensor) -> Tensor:
        """The total of one call; the values themselves where it is not known yet."""
        number, self.calls = self.calls, self.calls + 1
        if self.present is None:
            self.learned[-1].append((kind, values.detach()))
            return self.totals[number] if kind == "max" and self.totals else values
        if kind == "max":
            return self.totals[number]
        own = slice(self._first(self.present), None, self.count * processes()) if kind == "rows" else None
        found: Tensor = _Own.apply(values, self.totals[number], own)
        return found

    def _first(self, share: int) -> int:
        return (dist.get_rank() if processes() > 1 else 0) * self.count + share

    def _placed(self, values: list[Tensor]) -> Tensor:
        """The rows of this process among zeros."""
        count = _over_processes(torch.tensor(sum(map(len, values)), device=values[0].device))
        whole = values[0].new_zeros(int(count), *values[0].shape[1:])
        for share, part in enumerate(values):
            whole[self._first(share) :: self.count * processes()] = part
        return whole


_shares: Shares | None = None


@contextmanager
def _computed(shares: Shares) -> Iterator[None]:
    global _shares
    _shares = shares
    try:
        yield
    finally:
        _shares = None


@contextmanager
def alone() -> Iterator[None]:
    """A context in which sums, means and maxima are over the rows of this process only; the others need not take part."""
    with Shares(1).learn():
        yield


class _Own(torch.autograd.Function):
    """A total that is known, as a function of what one share contributes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, total: Tensor, rows: slice | None) -> Tensor:
        ctx.rows = rows
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        # Every process has the gradient of its own part; times their number, the average over them is the sum.
        own = grads[0] if ctx.rows is None else grads[0][ctx.rows]
        return own * processes(), None, None


def shared_mean(values: Tensor, real: Tensor | None = None) -> Tensor:
    """The mean of all numbers, over the rows of all shares.

    Args:
        values: with shape (B, *), the rows of this share.
        real: which rows count, with shape (B,). A share that has none left computes one that does not count. All by default, and where the
            batch is whole.

    Returns:
        A scalar, the same in every process.
    """
    if _shares is None and processes() == 1:
        return values.mean()
    rows = values.flatten(1).mean(dim=1) if values.ndim > 1 else values
    weight = torch.ones_like(rows) if real is None else real.to(rows.dtype)
    total = _total("sum", torch.stack([(rows * weight).sum(), weight.sum()]))
    return total[0] / total[1].clamp_min(1)


def gather_rows(values: Tensor) -> Tensor:
    """The rows (B, *) of all shares in the order of the whole batch, of which share s of n has rows s, s + n, and so on."""
    if _shares is None and processes() == 1:
        return values
    return _total("rows", values)


def shared_max(value: Tensor) -> int:
    """The largest of an integer of each share."""
    if _shares is None and processes() == 1:
        return int(value)
    return int(_total("max", value))


def _total(kind: str, values: Tensor) -> Tensor:
    """The total over the shares of one process, or else over the processes, of which each has one share."""
    if _shares is not None:
        return _shares.total(kind, values)
    single = Shares(1)
    single.learned = [[(kind, values.detach())]]
    single.add_up()
    single.present = 0
    return single.total(kind, values)


def _over_processes(value: Tensor, op: Any = None) -> Tensor:
    if processes() > 1:
        value = value.clone()
        dist.all_reduce(value, op=dist.ReduceOp.SUM if op is None else op)
    return value
