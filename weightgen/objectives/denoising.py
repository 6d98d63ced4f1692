"""Denoising: HyperLDM's training loss, with conditioning dropout.

Notation: z₀ standardised latent, t time, ε noise, e embedding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weightgen.priors import MLPDenoiser, check_scheduler, drop_parts
from weightgen.priors.parametrisation import check_kind, from_clean, signal_and_noise, to_clean
from weightgen.protocols import Outcome


class DenoisingLoss(nn.Module):
    """L = E ‖target − f(z_t, t, e or ∅)‖², mean over dimensions; the target is ε, z₀ or v as the scheduler's prediction type says.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, equation 9 and algorithm 12 (ε; a
        drop rate is given in the code only, 0.2).

    Args:
        denoiser: the network.
        scheduler: a diffusers scheduler.
        drop_rate: chance that an embedding is replaced by the null embedding, for each of its parts by itself; the unconditional
            branch of guidance learns from those.

    Raises:
        InputError: a scheduler that clips samples, or a prediction type that this loss does not know.
    """

    def __init__(self, denoiser: MLPDenoiser, scheduler: Any, drop_rate: float = 0.2) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.scheduler = check_scheduler(scheduler)
        self.drop_rate = drop_rate
        self.kind = check_kind(scheduler)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Outcome:
        """Loss of standardised latents (B, Z) with embeds (B, E)."""
        loss, _ = self.denoise(*batch)
        return Outcome(loss, {"loss": loss.detach()})

    def denoise(self, latents: Tensor, embeds: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the clean latents ẑ₀ (B, Z) that the denoiser sees in latents noised to times drawn at random."""
        rows = len(latents)
        times = torch.randint(0, self.scheduler.config.num_train_timesteps, (rows,), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = self.scheduler.add_noise(latents, noise, times)
        parts = getattr(self.denoiser, "part_dims", embeds.shape[-1:])  # other denoisers have one
        known = drop_parts(embeds, parts, self.drop_rate)
        prediction = self.denoiser(noisy, times, known)
        a, sigma = signal_and_noise(self.scheduler, times, latents)
        loss = F.mse_loss(prediction, from_clean(self.kind, latents, noisy, a, sigma))
        return loss, to_clean(self.kind, prediction, noisy, a, sigma)
