"""Objectives: a batch → a loss, as modules, so that distributed training sees the whole step."""

from weightgen.objectives.adaptation import AdaptationLoss
from weightgen.objectives.contrastive import ContrastiveLoss
from weightgen.objectives.elbo import ELBOLoss
from weightgen.objectives.episodic import EpisodicLoss
from weightgen.objectives.latent_diffusion import LatentDiffusionLoss
from weightgen.objectives.support_set import SupportSetLoss

__all__ = [
    "ELBOLoss",
    "AdaptationLoss",
    "ContrastiveLoss",
    "EpisodicLoss",
    "LatentDiffusionLoss",
    "SupportSetLoss",
]
