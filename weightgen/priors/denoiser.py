"""The denoiser of HyperLDM: a residual MLP with squeeze-and-excitation; time and task enter every block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.nn.standardizer import Standardizer
from weightgen.storage.hub import SavedModule


def null_embeds(embeds: Tensor) -> Tensor:
    """The embedding that means "no condition": zeros, in training (conditioning dropout) and in sampling alike."""
    return torch.zeros_like(embeds)


def embed_times(times: Tensor, dim: int) -> Tensor:
    """Sinusoidal embeddings [sin(t ω), cos(t ω)] of times (B,), with dim / 2 frequencies ω from 1 down to 1/10000; shape (B, dim).

    References:
        Vaswani et al., "Attention Is All You Need", 2017, section 3.5. Equal to `get_timestep_embedding` of
        diffusers bit by bit; the import of diffusers takes longer than sampling.
    """
    half = dim // 2
    exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=times.device)
    angles = times[:, None].float() * torch.exp(exponents / (half - 1))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def drop_parts(embeds: Tensor, part_dims: Sequence[int], rate: float) -> Tensor:
    """Conditioning dropout: replace each part of each embedding by "no condition", independently.

    Args:
        embeds: the parts one after the other, with shape (B, E + …).
        part_dims: lengths of the parts.
        rate: probability that a part is replaced.
    """
    dropped = torch.rand(len(embeds), len(part_dims), device=embeds.device) < rate
    parts = zip(embeds.split(list(part_dims), dim=-1), dropped.unbind(dim=1), strict=True)
    return torch.cat([torch.where(gone[:, None], null_embeds(part), part) for part, gone in parts], dim=-1)


class SqueezeExcitation(nn.Module):
    """y ← y · sigmoid(W₂ ReLU(W₁ y)), without biases (Hu et al., "Squeeze-and-Excitation Networks", 2018, on a vector)."""

    def __init__(self, dim: int, reduction: int = 8) -> None:
        super().__init__()
        inner = max(dim // reduction, 1)
        squeeze, excite = nn.Linear(dim, inner, bias=False), nn.Linear(inner, dim, bias=False)
        self.gate = nn.Sequential(squeeze, nn.ReLU(), excite, nn.Sigmoid())

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


class MLPDenoiser(nn.Module, SavedModule):
    """(z_t, t, e) → ε, z₀ or v, as the scheduler's `prediction_type` says.

    The embedding is standardised inside, and a bit says whether it is given; the zero embedding means "not
    given" (`null_embeds`). With support embeddings of length D, the condition is [text embedding, support
    embedding], and each part is treated this way separately.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.2
        and appendix A.6 (hidden layers 8192, 16384, 8192; time embedding of 150). The released code drops the
        squeeze-and-excitation layers and the last residual; here both are in the graph. LayerNorm is the
        code's.

    Args:
        latent_dim: Z.
        embed_dim: E.
        hidden_dims: widths of the blocks.
        time_dim: length of the sinusoidal time embedding; even.
        embed_noise: standard deviation of the noise added to the standardised embedding in training; 0 as in
            the paper.
        squeeze: whether there is squeeze-and-excitation.
        support_dim: D, of the embedding of a support set (`SupportHNet.encode`); 0 where there is none.
        support_noise: as `embed_noise`, for the support embedding.
    """

    def __init__(
        self,
        latent_dim: int,
        embed_dim: int,
        hidden_dims: Sequence[int] = (8192, 16384, 8192),
        time_dim: int = 150,
        embed_noise: float = 0.0,
        squeeze: bool = True,
        support_dim: int = 0,
        support_noise: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim, embed_dim=embed_dim, hidden_dims=hidden_dims)
        check_sizes(4, time_dim=time_dim)
        check_sizes(0, support_dim=support_dim)
        check_range(embed_noise=embed_noise, support_noise=support_noise)
        if time_dim % 2 or not hidden_dims:
            raise InputError(
                f"expected an even time_dim and at least one width in hidden_dims, got {time_dim} and {hidden_dims}"
            )
        self.latent_dim = latent_dim
        self.time_dim = time_dim
        self.embed_noise = embed_noise
        self.support_noise = support_noise
        self.embeds = Standardizer(embed_dim)
        self.supports = Standardizer(support_dim) if support_dim else None
        self.part_dims = (embed_dim, support_dim) if support_dim else (embed_dim,)
        dims = [latent_dim, *hidden_dims]
        condition_dim = time_dim + sum(self.part_dims) + len(self.part_dims)
        self.blocks = nn.ModuleList(
            ConditionedBlock(a, b, condition_dim, squeeze) for a, b in zip(dims, dims[1:], strict=False)
        )
        self.out = nn.Linear(dims[-1], latent_dim)

    def forward(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
        """Predict.

        Args:
            latents: z_t, with shape (B, Z).
            times: integer times, with shape (B,).
            embeds: with shape (B, E), or (B, E + D); a part of zeros is "no condition".

        Returns:
            The prediction, with shape (B, Z).

        Raises:
            InputError: embeddings of another length.
        """
        time = embed_times(times, self.time_dim).to(latents.dtype)
        condition = torch.cat([time, *self._conditions(embeds, latents.dtype)], dim=-1)
        features = latents
        for block in self.blocks:
            features = block(features, condition)
        return self.out(features)

    def _conditions(self, embeds: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """The standardised embedding of each part, and a bit that says whether the part is given."""
        if embeds.shape[-1] != sum(self.part_dims):
            raise InputError(
                f"expected embeds of length {' + '.join(map(str, self.part_dims))}, got {embeds.shape[-1]}"
            )
        known = ((self.embeds, self.embed_noise), (self.supports, self.support_noise))
        for part, (standardizer, noise) in zip(embeds.split(self.part_dims, dim=-1), known, strict=False):
            assert standardizer is not None
            present = part.any(dim=-1, keepdim=True).to(dtype)
            standardised = standardizer(part)
            if self.training and noise:
                standardised = standardised + noise * torch.randn_like(standardised)
            yield standardised * present
            yield present
