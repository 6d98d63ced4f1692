"""Functional denoising: HyperLDM's loss, with a second term that sees what the denoised weights do.

Notation: z₀ standardised latent, ẑ₀ the same as the denoiser predicts it, h the hypernetwork, B rows, T ≤ B tasks, Z latent, E embedding.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from weightgen.errors import InputError
from weightgen.metrics import count_correct, task_loss
from weightgen.nn.standardizer import Standardizer
from weightgen.objectives.denoising import DenoisingLoss
from weightgen.protocols import LatentHypernetwork, Outcome
from weightgen.shots import resplit
from weightgen.tasks import TaskBatch


class FunctionalDenoisingLoss(nn.Module):
    """L = denoising loss + γ · task loss of the network with weights h(ẑ₀), on all examples of the task; h is trained along.

    Squared error asks for the mean of the latents that fit a question, which need not be the latent of a good network. Where the decoder
    is trained too, latents become a code of what a question calls for, not only of what gradient descent once found. Ours, not the
    paper's.

    Args:
        denoising: the loss of the latents; its scheduler must not predict ε, from which z₀ cannot be told where there is hardly anything
            but noise.
        latents: the statistics with which latents are standardised.
        hypernet: h, latents → weights.
        network: the base network; not trained.
        weight: γ.

    Raises:
        InputError: a scheduler that predicts ε.
    """

    def __init__(
        self,
        denoising: DenoisingLoss,
        latents: Standardizer,
        hypernet: LatentHypernetwork,
        network: nn.Module,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if denoising.kind == "epsilon":
            raise InputError(
                "a loss on denoised weights needs prediction_type 'sample' or 'v_prediction', got 'epsilon': "
                "write scheduler.prediction_type=sample, or function_weight=0"
            )
        self.denoising = denoising
        self.hypernet: Any = hypernet
        self.latents = latents
        self._network = (network,)  # hidden from the optimiser and from data parallelism
        self.weight = weight

    def forward(self, batch: tuple[Tensor, Tensor, TaskBatch]) -> Outcome:
        """Loss of latents (B, Z) with embeds (B, E), of which the first T belong to the given tasks."""
        latents, embeds, tasks = batch
        denoising, clean = self.denoising.denoise(latents, embeds)
        asked = resplit(tasks, 0.0).query
        weights = self.hypernet(self.latents.inverse(clean[: len(asked.labels)]))
        (network,) = self._network
        logits = self.hypernet.space.call_batch(network, weights, asked.inputs, **tasks.context)
        task = task_loss(logits, asked.labels).mean()
        right, count = count_correct(logits, asked.labels)
        loss = denoising + self.weight * task
        accuracy = (right / count.clamp_min(1)).mean()
        return Outcome(loss, {"loss": denoising.detach(), "task_loss": task.detach(), "accuracy": accuracy})
