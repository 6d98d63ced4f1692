"""One learned weight vector for every task: what unconditional multitask training and MAML learn."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from weightgen.hypernets.saving import SPACE_CODER
from weightgen.storage.hub import SavedModule
from weightgen.weights import WeightSpace


class SharedWeights(nn.Module, SavedModule, coders=SPACE_CODER):
    """The hypernetwork that ignores its condition: h(·) = w⁰.

    References:
        Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017 (w⁰ is what
        MAML learns).

    Args:
        space: the weight space of the base network.
        input_dim: ignored; other hypernetworks need it.
    """

    def __init__(self, space: WeightSpace, input_dim: int | None = None) -> None:
        super().__init__()
        self.space = space
        self.weights = nn.Parameter(torch.zeros(space.size))

    def fit(self, values: Tensor) -> Self:
        """Do nothing: there are no statistics to take."""
        return self

    @torch.no_grad()
    def init_weights(self, weights: Tensor) -> Self:
        """Set w⁰ to `weights`, with shape (P,)."""
        self.weights.copy_(weights)
        return self

    def forward(self, condition: Any) -> Tensor:
        """Repeat w⁰ for each of B conditions.

        Args:
            condition: anything with a leading dimension B.

        Returns:
            Weights, with shape (B, P).
        """
        return self.weights.expand(len(condition), -1)
