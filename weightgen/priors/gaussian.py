"""The simplest prior: a normal distribution that does not depend on the question."""

import torch
from torch import Generator, Tensor, nn

from weightgen.errors import check_range
from weightgen.storage.hub import check_finite


class GaussianPrior(nn.Module):
    """z = μ + σ ε for every embedding; with σ = 0 a fixed start, such as the learned z⁰ of HNet-MAML.

    Args:
        mean: μ, with shape (Z,).
        std: σ.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, std: float = 1.0) -> None:
        super().__init__()
        check_range(std=std)
        check_finite({"mean": mean}, "the prior")
        self.register_buffer("mean", mean)
        self.std = std

    def sample(self, embeds: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Draw B latents (B, Z) for embeds (B, E)."""
        noise = torch.randn(len(embeds), len(self.mean), generator=generator)
        return self.mean + self.std * noise.to(self.mean)
