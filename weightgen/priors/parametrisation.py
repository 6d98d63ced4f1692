"""What a denoiser predicts: the noise ε, the clean latent z₀, or v = a ε − σ z₀; and how to get from one to the other.

Notation: z_t = a z₀ + σ ε the noisy latent at time t, where a² + σ² = 1; B rows, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from weightgen.errors import InputError

KINDS = ("epsilon", "sample", "v_prediction")
"""The prediction types of diffusers' schedulers that are known here."""


def check_kind(scheduler: Any) -> str:
    """The prediction type of a scheduler.

    Raises:
        InputError: one that is not known here.
    """
    kind = str(getattr(scheduler.config, "prediction_type", None))
    if kind not in KINDS:
        raise InputError(f"prediction_type must be one of {KINDS}, got {kind!r}")
    return kind


def signal_and_noise(scheduler: Any, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Signal a and noise σ at times (B,), both with shape (B, 1), with the type and device of `like`.

    Between integer times, where the Euler and Heun schedulers step, σ / a is interpolated linearly as they do it.
    """
    squares = scheduler.alphas_cumprod.to(like)
    if times.is_floating_point():
        ratios = ((1 - squares) / squares).sqrt()
        below = times.floor().long().clamp(0, len(squares) - 1)
        above = (below + 1).clamp(max=len(squares) - 1)
        ratio = torch.lerp(ratios[below], ratios[above], (times - below).to(ratios))
        square = (1 / (1 + ratio.square())).unsqueeze(-1)
    else:
        square = squares[times].unsqueeze(-1)
    return square.sqrt(), (1 - square).sqrt()


def to_clean(kind: str, prediction: Tensor, noisy: Tensor, a: Tensor, sigma: Tensor) -> Tensor:
    """ẑ₀ of a prediction: (B, Z) each, and (B, 1) for a and σ."""
    if kind == "sample":
        return prediction
    return (noisy - sigma * prediction) / a if kind == "epsilon" else a * noisy - sigma * prediction


def from_clean(kind: str, clean: Tensor, noisy: Tensor, a: Tensor, sigma: Tensor) -> Tensor:
    """The prediction that means ẑ₀; the inverse of `to_clean`."""
    if kind == "sample":
        return clean
    return (noisy - a * clean) / sigma if kind == "epsilon" else (a * noisy - clean) / sigma
