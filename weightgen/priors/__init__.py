"""Priors: embedding of a task → latents of its weights."""

from weightgen.priors.denoiser import MLPDenoiser, drop_parts, null_embeds
from weightgen.priors.diffusion import DiffusionPrior
from weightgen.priors.gaussian import GaussianPrior
from weightgen.priors.point import PointPrior
from weightgen.priors.schedulers import check_scheduler, paper_schedule

__all__ = [
    "DiffusionPrior",
    "GaussianPrior",
    "MLPDenoiser",
    "PointPrior",
    "check_scheduler",
    "drop_parts",
    "null_embeds",
    "paper_schedule",
]
