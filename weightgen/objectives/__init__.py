"""Objectives: a batch → a loss, as modules, so that distributed training sees the whole step."""

from weightgen.objectives.adaptation import Adaptation
from weightgen.objectives.denoising import Denoising
from weightgen.objectives.elbo import ELBO

__all__ = ["ELBO", "Adaptation", "Denoising"]
