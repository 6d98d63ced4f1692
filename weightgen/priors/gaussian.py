"""The simplest prior: a normal distribution that does not read the question."""

import torch
from torch import Generator, Tensor, nn


class GaussianPrior(nn.Module):
    """z = μ + σ ε, whatever the embedding; with σ = 0 a fixed start, as the learned z⁰ of HNet-MAML is one.

    Args:
        mean: μ, with shape (Z,).
        std: σ.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, std: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.std = std

    def sample(self, embeds: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Embeds (B, E), of which only the number counts → latents (B, Z)."""
        noise = torch.randn(len(embeds), len(self.mean), generator=generator)
        return self.mean + self.std * noise.to(self.mean)
