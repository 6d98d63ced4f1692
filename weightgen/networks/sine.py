"""A picture as a network: places to colours, with sines between the layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from weightgen.errors import check_range, check_sizes
from weightgen.storage.hub import SavedModule


class SineNetwork(nn.Module, SavedModule):
    """(x, y) → colour: x ← sin(ω (W x + b)) in each hidden layer, and a linear layer at the end.

    Args:
        hidden_dim: width of the hidden layers.
        depth: how many hidden layers there are.
        frequency: ω; the larger, the finer the details that are learned first.
        out_dim: numbers of a colour.

    References:
        Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions", 2020, section 3.2 (the initial weights).
    """

    def __init__(
        self, hidden_dim: int = 32, depth: int = 2, frequency: float = 15.0, out_dim: int = 3
    ) -> None:
        super().__init__()
        check_sizes(hidden_dim=hidden_dim, depth=depth, out_dim=out_dim)
        check_range(frequency=frequency)
        self.frequency = frequency
        sizes = [2, *[hidden_dim] * depth]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
        self.out = nn.Linear(hidden_dim, out_dim)
        for number, layer in enumerate([*self.hidden, self.out]):
            width = layer.in_features
            limit = math.sqrt(6 / width) / frequency if number else 1 / width
            nn.init.uniform_(layer.weight, -limit, limit)

    def forward(self, inputs: Tensor) -> Tensor:
        """Colours (*, out_dim) at places (*, 2), both in [-1, 1] as far as a picture has taught them."""
        for layer in self.hidden:
            inputs = (self.frequency * layer(inputs)).sin()
        return self.out(inputs)


def places(side: int) -> Tensor:
    """The middles of side × side pixels, row by row, as (x, y) in [-1, 1], with shape (side², 2)."""
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=-1)
