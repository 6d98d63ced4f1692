"""Priors: embedding of a task → latents of its weights."""

from weightgen.priors.denoiser import MLPDenoiser, drop_parts, null_embeds
from weightgen.priors.diffusion import DiffusionPrior, check_scheduler
from weightgen.priors.gaussian import GaussianPrior

__all__ = ["DiffusionPrior", "GaussianPrior", "MLPDenoiser", "check_scheduler", "drop_parts", "null_embeds"]
