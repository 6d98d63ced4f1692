"""Objectives: a batch → a loss, as modules, so that distributed training sees the whole step."""

from weightgen.objectives.adaptation import AdaptationLoss
from weightgen.objectives.contrastive import ContrastiveLoss
from weightgen.objectives.denoising import DenoisingLoss
from weightgen.objectives.elbo import ELBOLoss
from weightgen.objectives.episodic import EpisodicLoss
from weightgen.objectives.functional_denoising import FunctionalDenoisingLoss
from weightgen.objectives.support_set import SupportSetLoss

__all__ = [
    "ELBOLoss", "AdaptationLoss", "ContrastiveLoss", "DenoisingLoss", "EpisodicLoss", "FunctionalDenoisingLoss", "SupportSetLoss",
]  # fmt: skip
