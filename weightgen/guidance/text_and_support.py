"""Guidance by a text and by a support set at once, each with its own scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from weightgen.errors import check_range
from weightgen.priors import null_embeds
from weightgen.protocols import Denoiser


class TextAndSupportGuidance:
    """ε = ε_∅ + s_text (ε_text − ε_∅) + s_support (ε_both − ε_text). A `Denoiser` around a `Denoiser`.

    The order is fixed: first the text alone, then the change by the support set. The last term is 0 in a row
    without a support set, and the middle term is 0 in a row without a text; the result is then
    `ClassifierFreeGuidance` with the other scale. With scales of 1 the result is ε_both.

    References:
        Brooks, Holynski, Efros, "InstructPix2Pix: Learning to Follow Image Editing Instructions", 2023,
        equation 3 (two scales).

    Args:
        denoiser: a denoiser trained with independent dropout of the parts of its condition.
        text_dim: E, where the text embedding ends and the support embedding begins.
        text_scale: s_text.
        support_scale: s_support.
    """

    def __init__(self, denoiser: Denoiser, text_dim: int, text_scale: float, support_scale: float) -> None:
        check_range(-math.inf, text_scale=text_scale, support_scale=support_scale)
        self.denoiser = denoiser
        self.text_dim = text_dim
        self.text_scale = text_scale
        self.support_scale = support_scale

    def __call__(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
        """Predict the guided noise, with shapes (B, Z), (B,), (B, E + D) → (B, Z), in one batch of 3 B rows: ∅, text, both."""
        text, support = embeds[..., : self.text_dim], embeds[..., self.text_dim :]
        null, alone = null_embeds(embeds), torch.cat([text, null_embeds(support)], dim=-1)
        rows = torch.cat([null, alone, embeds])
        found = self.denoiser(latents.repeat(3, 1), times.repeat(3), rows)
        nothing, with_text, with_both = found.chunk(3)
        by_text = self.text_scale * (with_text - nothing)
        return nothing + by_text + self.support_scale * (with_both - with_text)
