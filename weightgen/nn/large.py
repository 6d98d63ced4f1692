"""Statistics and principal components of more vectors than fit into memory twice: they are read in batches.

Notation: M vectors, D numbers in a vector, K components.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

LARGE = 2**26
"""Numbers (256 MB in single precision) above which values are read in batches; below, results are those of the plain formulas."""

BATCH = 2**24  # numbers read at once


class Rows(Protocol):
    """Vectors (M, D) in memory or on disk: a tensor is one."""

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


class Mapped:
    """Rows f(rows), computed where they are read.

    Args:
        rows: with shape (M, D).
        function: (B, D) → (B, D).
    """

    def __init__(self, rows: Rows, function: Callable[[Tensor], Tensor]) -> None:
        self.rows, self.function = rows, function

    @property
    def shape(self) -> torch.Size:
        """(M, D)."""
        return self.rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.function(self.rows[rows])


def is_large(values: Rows) -> bool:
    """Whether values (M, D) are to be read in batches."""
    return values.shape.numel() > LARGE


def in_batches(values: Rows) -> Iterator[Tensor]:
    """Batches of the rows of values (M, D)."""
    step = max(1, BATCH // max(1, values.shape[1]))
    return (values[begin : begin + step] for begin in range(0, len(values), step))


def mean_and_std(values: Rows) -> tuple[Tensor, Tensor, bool]:
    """Mean (D,) and standard deviation (D,) of values (M, D) in one pass, and whether all are finite."""
    first = values[:1]
    shift = first[0].double()
    total, squares, finite = torch.zeros_like(shift), torch.zeros_like(shift), True
    for batch in in_batches(values):
        moved = batch.double() - shift  # near the mean, so that squares do not cancel
        total += moved.sum(dim=0)
        squares += moved.square().sum(dim=0)
        finite = finite and bool(batch.isfinite().all())
    mean = total / len(values)
    std = (squares / len(values) - mean.square()).clamp_min(0).sqrt()
    return (mean + shift).to(first.dtype), std.to(first.dtype), finite


def svd_in_batches(
    values: Rows, scale: Callable[[Tensor], Tensor], components: int, rounds: int = 4
) -> tuple[Tensor, Tensor]:
    """The largest singular values (K,) and right singular vectors (D, K) of A = scale(values), as `torch.svd_lowrank` finds them.

    References:
        Halko et al., "Finding structure with randomness", 2011, algorithms 4.4 and 5.1; here A Aᵀ is applied in one pass over the values.

    Args:
        values: with shape (M, D).
        scale: (M', D) → (M', D), applied to each batch.
        components: K.
        rounds: power iterations, each of which reads all values once.
    """
    first = values[:1]
    basis = torch.linalg.qr(torch.randn(values.shape[1], components, device=first.device))[0]
    for _ in range(rounds + 1):
        found = torch.zeros_like(basis)
        for batch in in_batches(values):
            scaled = scale(batch)
            found += scaled.mT @ (scaled @ basis)
        basis = torch.linalg.qr(found)[0]
    small = torch.cat([scale(batch) @ basis for batch in in_batches(values)])  # (M, K)
    _, singular, right = torch.linalg.svd(small, full_matrices=False)
    return singular, basis @ right.mT
