"""HNet: an MLP that writes weights, conditioned on a latent or directly on the embedding of a question."""

from collections.abc import Sequence
from typing import Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from weightgen.hypernets.saving import SPACE_CODER
from weightgen.nn.mlp import kaiming_mlp
from weightgen.nn.standardizer import Standardizer
from weightgen.weights import WeightSpace


class HNet(nn.Module, PyTorchModelHubMixin, library_name="weightgen", coders=SPACE_CODER):
    """Weights as an MLP of the condition: h(c) = w⁰ + MLP(standardised c + σ noise).

    The noise is drawn in training only: question embeddings are few, and without it the network learns them by heart. With a learned
    start z⁰, c is a latent that gradient descent adapts to each task from there (HNet-MAML), and it is not standardised.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 3.1 and appendix A.2
        (one hidden layer of 256; a learned z of 64 numbers, or the question embedding).

    Args:
        space: the weight space of the base network.
        input_dim: length of the condition (Z or E).
        hidden_dims: widths of the hidden layers.
        input_noise: σ, in standard deviations of the condition; 0 as in the paper.
        learned_start: whether the condition is a latent with a learned z⁰, drawn from N(0, 1); else it describes the task.
        spread: standard deviation over conditions of each weight after `init_weights`, about. At 0 all conditions give the same
            weights, and slopes with respect to the condition vanish: descent on a latent needs more than 0.
    """

    def __init__(
        self,
        space: WeightSpace,
        input_dim: int,
        hidden_dims: Sequence[int] = (256,),
        input_noise: float = 0.0,
        learned_start: bool = False,
        spread: float = 0.0,
    ) -> None:
        super().__init__()
        self.space = space
        self.latent_dim = input_dim
        self.input_noise = input_noise
        self.spread = spread
        self.condition = Standardizer(input_dim)
        self.start = nn.Parameter(torch.randn(input_dim)) if learned_start else None
        if learned_start:
            self.condition.count.fill_(1)  # mean 0 and deviation 1, which is what z⁰ is drawn with
        self.base = nn.Parameter(torch.zeros(space.size))
        self.mlp = kaiming_mlp([input_dim, *hidden_dims, space.size])

    @torch.no_grad()
    def init_weights(self, weights: Tensor) -> Self:
        """Begin at `weights`, with shape (P,): what z⁰, or the mean description, gives; others scatter around by `spread`."""
        self.mlp[-1].weight.mul_(self.spread)  # type: ignore[operator]
        middle = torch.zeros_like(self.condition.mean) if self.start is None else self.start
        self.base.copy_(weights - self.mlp(middle))
        return self

    def starts(self, embeds: Tensor) -> Tensor:
        """The conditions at which adaptation of the latent begins: z⁰ for every task, or the descriptions themselves.

        Args:
            embeds: descriptions, with shape (B, E); of a learned start only their number counts.

        Returns:
            Conditions, with shape (B, Z).
        """
        return embeds if self.start is None else self.start.expand(len(embeds), -1)

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
