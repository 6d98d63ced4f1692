"""A score of weights that draw pictures: how far what they draw is from what the networks of a zoo draw.

Notation: B tasks, P weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weightgen.data.zoo import Zoo
from weightgen.errors import InputError, check_sizes
from weightgen.networks.sine import SineNetwork, places
from weightgen.weights import FunctionalNetwork


class DrawnDifference(nn.Module):
    """L(w, t) = mean over pixels of ‖f(w, place) − f(w_t, place)‖², where w_t are the zoo's weights of task t and f is a `SineNetwork`.

    Two networks may draw the same with other weights, and nearly equal weights may draw different pictures: the squared error of weights
    sees neither.

    Args:
        zoo: of sine networks.
        side: side of the pictures that are compared.
        hidden_dim: see `SineNetwork`.
        depth: see `SineNetwork`.
        frequency: see `SineNetwork`.

    Raises:
        InputError: the zoo has other networks.
    """

    def __init__(
        self, zoo: Zoo, side: int = 16, hidden_dim: int = 32, depth: int = 2, frequency: float = 15.0
    ) -> None:
        super().__init__()
        check_sizes(side=side)
        self.zoo, self.network = zoo, FunctionalNetwork(SineNetwork(hidden_dim, depth, frequency))
        if dict(zoo.space.shapes) != dict(self.network.space.shapes):
            raise InputError(
                f"{zoo.folder} holds other networks than SineNetwork(hidden_dim={hidden_dim}, depth={depth})"
            )
        self.register_buffer("places", places(side), persistent=False)

    places: Tensor

    def draw(self, weights: Tensor) -> Tensor:
        """Colours (B, side², 3) of weights (B, P) in the order of the zoo."""
        own = self.network.space.flatten(self.zoo.space.unflatten(weights))
        return self.network(own, self.places.expand(len(own), -1, -1))

    def forward(self, weights: Tensor, tasks: Tensor) -> Tensor:
        """Losses (B,) of weights (B, P) for tasks (B,)."""
        with torch.no_grad():
            wanted = self.draw(self.zoo.at(torch.zeros_like(tasks), tasks))
        return (self.draw(weights) - wanted).square().mean(dim=(1, 2))
