"""Statistics and principal components of more vectors than fit into memory twice: they are read in batches.

Notation: M vectors, D numbers in a vector, K components.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

LARGE = 2**29
"""Numbers (2 GB in single precision) above which values are read in batches; below, results are those of the plain formulas."""

BATCH = 2**24  # numbers read at once


def in_batches(values: Tensor) -> Iterator[Tensor]:
    """Batches of the rows of values (M, D)."""
    return iter(values.split(max(1, BATCH // max(1, values.shape[1]))))


def mean_and_std(values: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Mean (D,) and standard deviation (D,) of values (M, D) in one pass, and whether all are finite."""
    shift = values[0].double()
    total, squares, finite = torch.zeros_like(shift), torch.zeros_like(shift), True
    for batch in in_batches(values):
        moved = batch.double() - shift  # near the mean, so that squares do not cancel
        total += moved.sum(dim=0)
        squares += moved.square().sum(dim=0)
        finite = finite and bool(batch.isfinite().all())
    mean = total / len(values)
    std = (squares / len(values) - mean.square()).clamp_min(0).sqrt()
    return (mean + shift).to(values.dtype), std.to(values.dtype), finite


def svd_in_batches(
    values: Tensor, scale: Callable[[Tensor], Tensor], components: int, rounds: int = 4
) -> tuple[Tensor, Tensor]:
    """The largest singular values (K,) and right singular vectors (D, K) of scale(values), as `torch.svd_lowrank` finds them.

    References:
        Halko et al., "Finding structure with randomness", 2011, algorithms 4.4 and 5.1.

    Args:
        values: with shape (M, D).
        scale: (M', D) → (M', D), applied to each batch.
        components: K.
        rounds: power iterations, each of which reads all values twice.
    """

    def times(right: Tensor) -> Tensor:
        return torch.cat([scale(batch) @ right for batch in in_batches(values)])

    def transposed_times(left: Tensor) -> Tensor:
        found, begin = left.new_zeros(values.shape[1], left.shape[1]), 0
        for batch in in_batches(values):
            found += scale(batch).mT @ left[begin : begin + len(batch)]
            begin += len(batch)
        return found

    basis = torch.linalg.qr(times(torch.randn(values.shape[1], components, device=values.device)))[0]
    for _ in range(rounds):
        basis = torch.linalg.qr(transposed_times(basis))[0]
        basis = torch.linalg.qr(times(basis))[0]
    directions, singular, _ = torch.linalg.svd(transposed_times(basis), full_matrices=False)
    return singular, directions
