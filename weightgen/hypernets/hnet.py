"""HNet: an MLP that writes weights, conditioned on a latent or directly on the embedding of a question."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from weightgen.errors import check_range, check_sizes
from weightgen.hypernets.saving import SPACE_CODER
from weightgen.nn.mlp import kaiming_mlp
from weightgen.nn.standardizer import Standardizer
from weightgen.storage.hub import SavedModule
from weightgen.weights import WeightSpace


class HNet(nn.Module, SavedModule, coders=SPACE_CODER):
    """Weights as an MLP of the condition: h(c) = w⁰ + MLP(standardised c + σ noise).

    The noise is drawn in training only: there are few question embeddings, and without noise the network
    overfits them. With `latent_dim`, c is a latent that is adapted to each task by gradient descent from a
    learned z⁰ (HNet-MAML); it is not standardised.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 3.1
        and appendix A.2 (one hidden layer of 256; a learned z of 64 numbers, or the question embedding).

    Args:
        space: the weight space of the base network.
        input_dim: E, the length of the embedding of a task.
        hidden_dims: widths of the hidden layers.
        input_noise: σ, in standard deviations of the condition; 0 as in the paper.
        latent_dim: Z, the length of a latent with a learned z⁰, drawn from N(0, 1); None conditions on the
            embedding, and then Z = E.
        spread: approximate standard deviation of each weight over conditions after `init_weights`. At 0 all
            conditions give the same weights and gradients with respect to the condition are 0, so adapting
            latents needs a spread above 0.
    """

    def __init__(
        self,
        space: WeightSpace,
        input_dim: int,
        hidden_dims: Sequence[int] = (256,),
        input_noise: float = 0.0,
        latent_dim: int | None = None,
        spread: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(
            input_dim=input_dim,
            hidden_dims=hidden_dims,
            latent_dim=input_dim if latent_dim is None else latent_dim,
        )
        check_range(input_noise=input_noise, spread=spread)
        self.space = space
        size = input_dim if latent_dim is None else latent_dim
        self.latent_dim = size
        self.input_noise = input_noise
        self.spread = spread
        self.condition = Standardizer(size)
        self.start = None if latent_dim is None else nn.Parameter(torch.randn(size))
        if self.start is not None:
            self.condition.count.fill_(1)  # mean 0 and deviation 1, which is what z⁰ is drawn with
        self.base = nn.Parameter(torch.zeros(space.size))
        self.mlp = kaiming_mlp([size, *hidden_dims, space.size])

    def fit(self, values: Tensor) -> Self:
        """Take the statistics of embeddings, with shape (M, E); do nothing where the condition is a latent."""
        if self.start is None:
            self.condition.fit(values)
        return self

    @torch.no_grad()
    def init_weights(self, weights: Tensor) -> Self:
        """Write `weights`, with shape (P,), for z⁰ or the mean embedding; see `spread` for other conditions."""
        self.mlp[-1].weight.mul_(self.spread)  # type: ignore[operator]
        middle = torch.zeros_like(self.condition.mean) if self.start is None else self.start
        self.base.copy_(weights - self.mlp(middle))
        return self

    def initial_latents(self, embeds: Tensor) -> Tensor:
        """The latents from which adaptation starts: z⁰ for every task, or the embeddings themselves.

        Args:
            embeds: embeddings of B tasks, with shape (B, E).

        Returns:
            Latents, with shape (B, Z).
        """
        return embeds if self.start is None else self.start.expand(len(embeds), -1)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """All parameters but z⁰."""
        return [parameter for parameter in self.parameters() if parameter is not self.start]

    def forward(self, condition: Tensor) -> Tensor:
        """Write weights.

        Args:
            condition: with shape (*, Z).

        Returns:
            Weights, with shape (*, P).
        """
        inputs = self.condition(condition)
        if self.training and self.input_noise:
            inputs = inputs + self.input_noise * torch.randn_like(inputs)
        return self.base + self.mlp(inputs)
