"""Standardisation of vectors; mean and standard deviation are buffers, so they are saved with the model."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from weightgen.errors import InputError
from weightgen.nn import large

CONSTANT = 1e-6
"""Smallest standard deviation; a dimension that varies no more than that counts as constant."""


class Standardizer(nn.Module):
    """Shift and scale vectors to mean 0 and standard deviation 1; refuses to work before `fit`.

    A dimension that was constant in `fit` tells nothing and becomes 0: divided by its deviation, the rounding of a new value would
    become large, and so would gradients.

    Args:
        dim: D, the length of a vector.
    """

    mean: Tensor
    std: Tensor
    count: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(
        self,
        values: large.Rows,
        scalar: bool = False,
        groups: Sequence[int] | None = None,
    ) -> Self:
        """Take the statistics of `values`, with shape (*, D).

        Args:
            values: at least two vectors, in memory or on disk.
            scalar: one standard deviation for all dimensions, the mean over them, as in the VAE of the
                HyperCLIP authors' code.
            groups: sizes of consecutive parts of a vector, each of which has one standard deviation, the root of its mean square; for
                weight vectors, the layers.

        Returns:
            This module.

        Raises:
            InputError: too few vectors, a wrong length, or values that are not finite.
        """
        self._check(values)
        rows = values.reshape(-1, values.shape[-1]) if isinstance(values, Tensor) else values
        if len(rows) < 2:
            raise InputError(f"statistics need at least two vectors of finite numbers, got {len(rows)}")
        if large.is_large(rows):
            mean, std, finite = large.mean_and_std(rows)
        else:
            rows = rows[:]
            mean, std = rows.mean(dim=0), rows.std(dim=0, correction=0)
            finite = bool(rows.isfinite().all())
        if not finite:
            raise InputError(f"statistics need at least two vectors of finite numbers, got {len(rows)}")
        self.mean.copy_(mean)
        if groups is not None:
            std = torch.cat([p.square().mean().sqrt().expand_as(p) for p in std.split(list(groups))])
        self.std.copy_((std.mean().expand_as(std) if scalar else std).clamp_min(CONSTANT))
        self.count.fill_(len(rows))
        return self

    def forward(self, values: Tensor) -> Tensor:
        """(values − mean) / std, and 0 in constant dimensions, for shape (*, D)."""
        self._check(values, fitted=True)
        return ((values - self.mean) / self.std).masked_fill(self.std <= CONSTANT, 0.0)

    def inverse(self, values: Tensor) -> Tensor:
        """The inverse of `forward`: values · std + mean, for shape (*, D)."""
        self._check(values, fitted=True)
        return values * self.std + self.mean

    def _check(self, values: large.Rows, fitted: bool = False) -> None:
        if values.shape[-1:] != self.mean.shape:
            raise InputError(f"expected vectors of shape (*, {len(self.mean)}), got {tuple(values.shape)}")
        if fitted and not self.count:
            raise InputError("this Standardizer has no statistics yet: call fit(values) or load a state")
