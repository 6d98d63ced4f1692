"""What a denoiser predicts: the noise ε, the clean latent z₀, or v = a ε − σ z₀; and how to get from one to the other.

Notation: z_t = a z₀ + σ ε the noisy latent at time t, where a² + σ² = 1; B rows, Z latent.
"""

from __future__ import annotations

from typing import Any

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
    """Signal a and noise σ at integer times (B,), both with shape (B, 1), with the type and device of `like`."""
    square = scheduler.alphas_cumprod.to(like)[times].unsqueeze(-1)
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
