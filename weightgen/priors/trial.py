"""A trial of a scheduler on latents whose best denoiser is known: what fails here would fail, or mislead, on a trained one.

Notation: z₀ ~ N(1, s²) a latent of one number, z_t = a z₀ + σ ε; so E[z₀ | z_t] = 1 + a s² / (a² s² + σ²) (z_t − a).
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor

from weightgen.errors import InputError
from weightgen.priors.parametrisation import check_kind, from_clean, signal_and_noise

STD = 0.5
ROWS = 256
# Times the exact standard deviation, and below the exact mean. DDIM stays far inside from 2 steps on; Heun with 2 gives 4 and more.
WIDER, LOWER = 1.6, 0.25


def takes_generator(scheduler: Any) -> bool:
    """Whether a step draws noise from a generator that is given."""
    return "generator" in inspect.signature(scheduler.step).parameters


def check_steps(scheduler: Any, steps: int) -> None:
    """Refuse a number of steps with which a scheduler does not turn noise into samples.

    It is run on a Gaussian with its exact denoiser. The random state does not change.

    Raises:
        InputError: the scheduler fails with so many steps, its values are not finite, or it leaves far more noise than there should be.
    """
    label = f"{type(scheduler).__name__} with {steps} step{'s' * (steps != 1)}"
    advice = "take another number of steps, or another scheduler such as DDIMScheduler"
    try:
        with torch.random.fork_rng(devices=[]):
            sampled = _sampled(copy.deepcopy(scheduler), steps)
    except Exception as error:  # schedulers fail in many ways on what they do not support
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{label} cannot sample ({reason:.150}): {advice}") from error
    mean, std = sampled.mean().item(), sampled.std().item()
    kept = scheduler.alphas_cumprod[
        -1
    ].item()  # above 0 where training does not end in pure noise: then no sampling is right
    wider = (kept * STD**2 + 1 - kept) ** -0.5
    if not (std <= WIDER * wider * STD and mean >= 1 - kept**0.5 * wider * STD - LOWER):
        raise InputError(
            f"{label} does not denoise: for latents with mean 1 and standard deviation {STD} it gives {mean:.2g} and {std:.2g}; "
            f"{advice}"
        )


@torch.no_grad()
def _sampled(scheduler: Any, steps: int) -> Tensor:
    kind = check_kind(scheduler)
    scheduler.set_timesteps(steps)
    if len(scheduler.timesteps) > 1 and scheduler.timesteps[0] < scheduler.timesteps[-1]:
        raise InputError("it runs from latents to noise")
    places = (torch.arange(ROWS) + 0.5) / ROWS
    z = torch.special.ndtri(places)[:, None] * scheduler.init_noise_sigma
    extra = {"generator": torch.Generator().manual_seed(0)} if takes_generator(scheduler) else {}
    for time in scheduler.timesteps:
        noisy = scheduler.scale_model_input(z, time)
        a, sigma = signal_and_noise(scheduler, time.expand(ROWS), noisy)
        clean = 1 + a * STD**2 / (a.square() * STD**2 + sigma.square()) * (noisy - a)
        z = scheduler.step(from_clean(kind, clean, noisy, a, sigma), time, z, **extra).prev_sample
    return z
