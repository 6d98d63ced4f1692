"""The denoiser of HyperLDM: a residual MLP with squeeze-and-excitation, told the time and the task at every block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import get_timestep_embedding
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from weightgen.standardizer import Standardizer


def null_embeds(embeds: Tensor) -> Tensor:
    """The embedding that means "no condition": zeros, in training (conditioning dropout) and in sampling alike."""
    return torch.zeros_like(embeds)


class SqueezeExcitation(nn.Module):
    """y ← y · sigmoid(W₂ ReLU(W₁ y)), without biases (Hu et al., "Squeeze-and-Excitation Networks", 2018, on a vector)."""

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(dim, max(dim // reduction, 1), bias=False), nn.ReLU(),
            nn.Linear(max(dim // reduction, 1), dim, bias=False), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gate(features)


class ConditionedBlock(nn.Module):
    """x ← W x + SE(ReLU(LayerNorm(Linear([x, time, task])))), from width `dim_in` to `dim_out`."""

    def __init__(self, dim_in: int, dim_out: int, condition_dim: int, squeeze: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(dim_in + condition_dim, dim_out), nn.LayerNorm(dim_out), nn.ReLU()
        )
        self.excite = SqueezeExcitation(dim_out) if squeeze else nn.Identity()
        self.skip = nn.Linear(dim_in, dim_out, bias=False)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        return self.skip(features) + self.excite(self.body(torch.cat([features, condition], dim=-1)))


class MLPDenoiser(nn.Module, PyTorchModelHubMixin, library_name="weightgen"):
    """(z_t, t, e) → what the scheduler's `prediction_type` names: the noise ε, or z₀, or v.

    The embedding is standardised inside, and a bit says whether there is one; the zero embedding means "none" (`null_embeds`).

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.2 and appendix A.6
        (hidden layers 8192, 16384, 8192; time embedding of 150). The released code drops the squeeze-and-excitation layers and
        the last residual; here both are in the graph. LayerNorm is the code's.

    Args:
        latent_dim: Z.
        embed_dim: E.
        hidden_dims: widths of the blocks.
        time_dim: length of the sinusoidal time embedding; even.
        embed_noise: standard deviation of the noise added to the standardised embedding in training; 0 as in the paper.
        squeeze: whether there is squeeze-and-excitation.
    """

    def __init__(
        self,
        latent_dim: int,
        embed_dim: int,
        hidden_dims: Sequence[int] = (8192, 16384, 8192),
        time_dim: int = 150,
        embed_noise: float = 0.0,
        squeeze: bool = True,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.time_dim = time_dim
        self.embed_noise = embed_noise
        self.embeds = Standardizer(embed_dim)
        dims = [latent_dim, *hidden_dims]
        condition_dim = time_dim + embed_dim + 1
        self.blocks = nn.ModuleList(
            ConditionedBlock(a, b, condition_dim, squeeze) for a, b in zip(dims, dims[1:], strict=False)
        )
        self.out = nn.Linear(dims[-1], latent_dim)

    def forward(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
        """Predict.

        Args:
            latents: z_t, with shape (B, Z).
            times: integer times, with shape (B,).
            embeds: with shape (B, E); a row of zeros is "no condition".

        Returns:
            The prediction, with shape (B, Z).
        """
        present = embeds.any(dim=-1, keepdim=True).to(latents.dtype)
        described = self.embeds(embeds)
        if self.training and self.embed_noise:
            described = described + self.embed_noise * torch.randn_like(described)
        time = get_timestep_embedding(times, self.time_dim).to(latents.dtype)
        condition = torch.cat([time, described * present, present], dim=-1)
        features = latents
        for block in self.blocks:
            features = block(features, condition)
        return self.out(features)
