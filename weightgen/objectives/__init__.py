"""Objectives: a batch → a loss, as modules, so that distributed training sees the whole step."""

from weightgen.objectives.adaptation import Adaptation
from weightgen.objectives.contrastive import Contrastive
from weightgen.objectives.denoising import Denoising
from weightgen.objectives.elbo import ELBO
from weightgen.objectives.episodic import Episodic
from weightgen.objectives.functional_denoising import FunctionalDenoising
from weightgen.objectives.matching import Matching
from weightgen.objectives.one_pass import OnePass

__all__ = [
    "ELBO", "Adaptation", "Contrastive", "Denoising", "Episodic", "FunctionalDenoising", "Matching", "OnePass",
]  # fmt: skip
