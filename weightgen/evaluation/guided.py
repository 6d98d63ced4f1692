"""Accuracy of weights that HyperCLIP guidance reaches: gradient steps on the similarity of weights and question, no examples.

Notation: T tasks, P weights, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import InputError
from weightgen.evaluation.accuracy import Scores, evaluate
from weightgen.guidance import HyperCLIPGuidance
from weightgen.hypernets import HNet
from weightgen.priors import GaussianPrior
from weightgen.weights import FunctionalNetwork


def hyperclip_scores(
    network: FunctionalNetwork,
    decoder: Any,
    encoder: HyperCLIP,
    tasks: MetaVQATasks,
    start: Tensor,
    steps: int = 10,
    lr: float = 0.1,
) -> Scores:
    """Score the weights that guidance reaches from one latent, which is the same for all tasks.

    Args:
        network: the base network.
        decoder: latents (*, Z) → weights (*, P), such as an `HVAE` or an `HNet`.
        encoder: weights and questions → embeddings.
        tasks: T tasks.
        start: the latent, with shape (Z,).
        steps: gradient steps.
        lr: step size.

    Raises:
        InputError: the steps diverge.
    """
    guidance = HyperCLIPGuidance(GaussianPrior(start, std=0.0), decoder, encoder, steps, lr)
    weights = decoder(guidance.sample(tasks.embeds)).detach()
    if not weights.isfinite().all():
        raise InputError(
            f"guidance with {steps} steps of {lr} diverged: give a smaller step size, {lr / 3:.2g}"
        )
    return evaluate(network, tasks, lambda _, rows: weights[rows])


def latent_start(decoder: Any) -> Tensor:
    """Where guidance starts (Z,): the learned latent of an HNet; of an HNet on questions, their mean; 0 for an HVAE."""
    if not isinstance(decoder, HNet):
        return torch.zeros(decoder.latent_dim)
    return decoder.condition.mean if decoder.start is None else decoder.start.detach()
