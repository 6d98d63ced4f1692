"""Classifier-free guidance: push the denoiser's prediction away from the unconditional one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from weightgen.errors import check_range
from weightgen.priors import null_embeds
from weightgen.protocols import Denoiser


class ClassifierFreeGuidance:
    """ε = ε_∅ + s (ε_e − ε_∅): s = 0 is unconditional, s = 1 conditional, s > 1 guided. A `Denoiser` around a `Denoiser`.

    This is the convention of diffusers and of the paper's equation 10, (1 − γ) ε_∅ + γ ε_e with γ = s. Ho &
    Salimans write (1 + w) ε_e − w ε_∅, where w = s − 1.

    References:
        Ho & Salimans, "Classifier-Free Diffusion Guidance", 2022.

    Args:
        denoiser: a denoiser trained with conditioning dropout.
        scale: s.
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        check_range(-math.inf, scale=scale)
        self.denoiser = denoiser
        self.scale = scale

    def __call__(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
        """Predict the guided noise, with shapes (B, Z), (B,), (B, E) → (B, Z); both branches run as one batch."""
        if self.scale == 1:
            return self.denoiser(latents, times, embeds)
        null = null_embeds(embeds)
        if self.scale == 0:
            return self.denoiser(latents, times, null)
        both = self.denoiser(latents.repeat(2, 1), times.repeat(2), torch.cat([null, embeds]))
        unconditional, conditional = both.chunk(2)
        return unconditional + self.scale * (conditional - unconditional)
