"""DDIM on the usual schedule, without diffusers: its import takes 1.8 s, because it loads torch's compiler, and sampling 0.05 s."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from weightgen.priors.parametrisation import KINDS, to_clean

PLAIN = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "linear",
    "trained_betas": None,
    "clip_sample": False,
    "thresholding": False,
    "rescale_betas_zero_snr": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "leading",
}
"""The settings of a diffusers scheduler that `DDIM` computes; those of `paper_schedule` are among them."""


class DDIM:
    """What sampling needs of diffusers' `DDIMScheduler` with the settings `PLAIN`.

    z_s = √ᾱ_s ẑ₀ + √(1 − ᾱ_s) ε̂ from time t to the next time s, and ẑ₀ at the last step.

    References:
        Song et al., "Denoising Diffusion Implicit Models", 2021, equation 12 with η = 0.

    Args:
        config: the settings, see `is_plain`.
    """

    init_noise_sigma = 1.0

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = SimpleNamespace(**config)
        limits = (config["beta_start"], config["beta_end"], config["num_train_timesteps"])
        self.alphas_cumprod = (1 - torch.linspace(*limits, dtype=torch.float32)).cumprod(dim=0)

    def set_timesteps(self, steps: int, device: torch.device | str | None = None) -> None:
        """Choose the times of so many steps."""
        self.stride = self.config.num_train_timesteps // steps
        self.timesteps = torch.arange(steps - 1, -1, -1, device=device) * self.stride

    def scale_model_input(self, latents: Tensor, time: Tensor) -> Tensor:
        """Return the latents as they are."""
        return latents

    def step(self, prediction: Tensor, time: Tensor, latents: Tensor) -> SimpleNamespace:
        """The latents (B, Z) after a step, as `prev_sample`."""
        now, after = self.alphas_cumprod[time], time - self.stride
        then = self.alphas_cumprod[after] if after >= 0 else torch.tensor(1.0)
        a, sigma = now**0.5, (1 - now) ** 0.5
        kind = self.config.prediction_type
        clean = to_clean(kind, prediction, latents, a, sigma)
        if kind == "v_prediction":
            noise = a * prediction + sigma * latents
        else:
            noise = prediction if kind == "epsilon" else (latents - a * clean) / sigma
        return SimpleNamespace(prev_sample=then**0.5 * clean + (1 - then) ** 0.5 * noise)


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether `DDIM` computes what a scheduler with these settings does."""
    numbers = [config.get(name) for name in ("beta_start", "beta_end")]
    if not all(isinstance(number, float) and 0 < number < 1 for number in numbers):
        return False
    usual = all(config.get(name, "") == value for name, value in PLAIN.items())
    return usual and config.get("prediction_type") in KINDS and type(config.get("num_train_timesteps")) is int
