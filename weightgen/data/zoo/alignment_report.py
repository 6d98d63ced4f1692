"""What aligning the networks of a zoo with the first of them gained."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from weightgen.data.zoo.alignment import align, find_symmetries, product_difference
from weightgen.weights import WeightSpace


class AlignmentReport:
    """Align networks one after another with the first, and keep count of the gain.

    Args:
        space: of the networks.
    """

    def __init__(self, space: WeightSpace) -> None:
        self.space, self.found = space, find_symmetries(space)
        self.reference: Tensor | None = None
        self.count = 0
        self.sums = [0.0] * 4

    def take(self, weights: Tensor) -> Tensor:
        """Weights (P,) that compute the same, aligned with those of the first network."""
        if self.reference is None:
            self.first, self.reference = weights, align(self.space, weights, weights)
            return self.reference
        aligned = align(self.space, weights, self.reference)
        found = [
            _difference(weights, self.first),
            _difference(aligned, self.reference),
            product_difference(self.space, weights, self.first),
            product_difference(self.space, aligned, self.reference),
        ]
        self.sums = [total + one for total, one in zip(self.sums, found, strict=True)]
        self.count += 1
        return aligned

    def facts(self) -> dict[str, Any]:
        """Mean differences from the first network before and after, and what stayed as it is."""
        means = [round(total / max(self.count, 1), 4) for total in self.sums]
        what = (
            f"{len(self.found.chain)} layers of a chain"
            if self.found.chain
            else f"{len(self.found.pairs)} LoRA products"
        )
        facts: dict[str, Any] = {"aligned": what if self.found.chain or self.found.pairs else "nothing"}
        facts["difference_of_weights"] = {"before": means[0], "after": means[1]}
        if self.found.pairs:
            facts["difference_of_products_halfway"] = {"before": means[2], "after": means[3]}
        return facts | {"nothing_done_for": self.found.untouched}


def _difference(one: Tensor, other: Tensor) -> float:
    """The distance of two weight vectors (P,), relative to the length of the second."""
    return ((one - other).norm() / other.norm().clamp_min(1e-12)).item()
