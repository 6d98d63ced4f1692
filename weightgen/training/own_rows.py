"""Which rows of a batch one of several processes computes."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from weightgen.tasks import PADDING_LABEL, TaskBatch


def own_rows(batch: Any, process: int, processes: int) -> Any:
    """The rows of a batch that one of several processes computes: process, process + processes, and so on.

    Where none is left, it is the first one without its query set: all processes must take part in every step, and that row does
    not count. Of tasks, a single row gets such a companion, because the order of the dimensions of one row in memory does not tell
    that of more rows.
    """

    def of(part: Any, pair: bool = False) -> Any:
        if part is None:
            return None
        size = len(part.embeds) if isinstance(part, TaskBatch) else len(part)
        rows = share_of(size, process, processes, pair)
        if isinstance(part, Tensor):
            return part[rows]
        own = tree_map(lambda value: value[rows], part)
        own.query.labels[len(range(size)[process::processes]) :] = PADDING_LABEL
        return own

    return of(batch, True) if isinstance(batch, TaskBatch) else tuple(map(of, batch))


def share_of(size: int, process: int, processes: int, pair: bool = False) -> list[int]:
    """The numbers of the rows that one of several processes computes, see `own_rows`."""
    rows = list(range(size)[process::processes]) or [0]
    return rows * 2 if pair and len(rows) == 1 < size else rows
