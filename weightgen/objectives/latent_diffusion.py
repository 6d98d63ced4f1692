"""Latent diffusion: HyperLDM's training loss, and optionally the task loss of denoised weights.

Notation: z₀ standardised latent, z_t the same at time t, ẑ₀ as the denoiser predicts it, ε noise, e
embedding, h the hypernetwork; B rows, Z latent, E embedding, T ≤ B tasks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weightgen.errors import InputError, check_range
from weightgen.nn.across_processes import shared_mean
from weightgen.objectives.function_loss import function_loss
from weightgen.priors import DiffusionPrior, drop_parts
from weightgen.priors.parametrisation import check_kind, from_clean, signal_and_noise, to_clean
from weightgen.protocols import LatentHypernetwork, Outcome, TrainedDenoiser, WeightScore
from weightgen.tasks import TaskBatch
from weightgen.weights import FunctionalNetwork


class LatentDiffusionLoss(nn.Module):
    """L = E ‖target − f(z_t, t, e or ∅)‖² + γ · task loss of the base network with weights h(ẑ₀).

    The first term is the mean over dimensions; the target is ε, z₀ or v as the scheduler's prediction type
    says. The second term (γ = 0 in the paper) is computed on all examples of the tasks given, and trains the
    decoder of h too: the squared error alone asks for the mean of the latents that fit a question, which need
    not be the latent of a good network.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, equation 9 and
        algorithm 12 (ε; the drop rate 0.2 is given in the code only).

    Args:
        denoiser: f, the network that is trained.
        prior: its scheduler is the noise schedule, its statistics standardise the latents. Its own denoiser
            is not used; it may be a moving average of f.
        hypernet: h, latents → weights; frozen, but for its decoder where γ > 0.
        network: the base network, as a function of its weights.
        drop_rate: chance that an embedding is replaced by "no condition", independently for each of its
            parts. Guidance needs the unconditional predictions that are learned this way.
        function_weight: γ.
        score: in place of the task loss, where weights are of a zoo without tasks.

    Raises:
        InputError: the prediction type is unknown, or it is ε and γ > 0: ẑ₀ cannot be computed from ε where
            z_t holds hardly any signal.
    """

    def __init__(
        self,
        denoiser: TrainedDenoiser,
        prior: DiffusionPrior,
        hypernet: LatentHypernetwork,
        network: FunctionalNetwork,
        drop_rate: float = 0.2,
        function_weight: float = 0.0,
        score: WeightScore | None = None,
    ) -> None:
        super().__init__()
        check_range(0, 1, drop_rate=drop_rate)
        check_range(function_weight=function_weight)
        self.kind = check_kind(prior.scheduler)
        if function_weight and self.kind == "epsilon":
            raise InputError(
                "a loss on denoised weights needs prediction_type 'sample' or 'v_prediction', got 'epsilon': "
                "write scheduler.prediction_type=sample, or function_weight=0"
            )
        self.denoiser = denoiser
        # Not the prior itself: its denoiser is not trained here.
        self.scheduler = prior.scheduler
        self.latents = prior.latents
        self.hypernet = hypernet
        if isinstance(hypernet, nn.Module):
            hypernet.requires_grad_(False)
        for parameter in hypernet.decoder_parameters() if function_weight else ():
            parameter.requires_grad_(True)
        self.network = network
        self.drop_rate = drop_rate
        self.function_weight = function_weight
        self.score = score

    def forward(self, batch: tuple[Tensor, Tensor, TaskBatch | Tensor | None]) -> Outcome:
        """Loss of a batch.

        Args:
            batch: latents (B, Z), not standardised; their embeddings (B, E); and the tasks of the first T
                rows, or their numbers (T,) where there is a score, or None where only the first term is wanted.
        """
        latents, embeds, tasks = batch
        denoising, clean = self._denoise(self.latents(latents), embeds)
        if tasks is None or not self.function_weight:
            return Outcome(denoising, {"loss": denoising.detach()})
        count = len(tasks.embeds) if isinstance(tasks, TaskBatch) else len(tasks)
        weights = self.hypernet(self.latents.inverse(clean[:count]))
        task, metrics = function_loss(self.network, weights, tasks, self.score)
        return Outcome(denoising + self.function_weight * task, {"loss": denoising.detach(), **metrics})

    def _denoise(self, latents: Tensor, embeds: Tensor) -> tuple[Tensor, Tensor]:
        """The first term of standardised latents (B, Z), and the clean latents ẑ₀ (B, Z) at times drawn at random."""
        rows = len(latents)
        times = torch.randint(0, self.scheduler.config.num_train_timesteps, (rows,), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = self.scheduler.add_noise(latents, noise, times)
        known = drop_parts(embeds, self.denoiser.part_dims, self.drop_rate)
        prediction = self.denoiser(noisy, times, known)
        a, sigma = signal_and_noise(self.scheduler, times, latents)
        target = from_clean(self.kind, latents, noisy, a, sigma)
        loss = shared_mean(F.mse_loss(prediction, target, reduction="none"))
        return loss, to_clean(self.kind, prediction, noisy, a, sigma)
