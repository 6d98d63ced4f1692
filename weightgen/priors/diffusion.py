"""HyperLDM's prior: latent diffusion from the embedding of a task to the latents of its weights.

Notation: z₀ standardised latent, z_t the same after t steps of noise, ε the noise, e the embedding, T
training steps of the schedule.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from weightgen.errors import InputError, check_range
from weightgen.nn.standardizer import Standardizer
from weightgen.priors.ddim import DDIM
from weightgen.priors.denoiser import MLPDenoiser
from weightgen.priors.schedulers import (
    check_scheduler,
    keep_positional,
    load_scheduler,
    of_diffusers,
    save_scheduler,
)
from weightgen.priors.trial import check_steps, takes_generator
from weightgen.protocols import Denoiser, TrainedDenoiser
from weightgen.storage.files import read_shapes, read_tensors, write_tensors
from weightgen.storage.hub import check_finite, compare_state, load_part


def draw_noise(like: Tensor, dim: int, generator: Sequence[Generator] | Generator | None) -> Tensor:
    """Standard normal numbers (B, dim) with the type and device of `like` (B, ...), from one generator or one per row."""
    if isinstance(generator, Sequence):
        return torch.cat([draw_noise(like[:1], dim, each) for each in generator[: len(like)]])
    # A generator of the CPU draws the same numbers for every device.
    where = like.device if generator is None else generator.device
    return torch.randn(len(like), dim, generator=generator, device=where, dtype=like.dtype).to(like.device)


class DiffusionPrior(nn.Module):
    """p(z | e) by reversing a diffusion of standardised latents.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.2,
        algorithm 13 (true linear β from 1e-4 to 0.06, T = 350).

    Args:
        denoiser: predicts what `scheduler.config.prediction_type` says.
        scheduler: the diffusers scheduler of training; it must not clip samples. Sampling can use another one
            (`prior.scheduler = …`) with the same training schedule and prediction type, such as
            `Kind.from_config(prior.scheduler.config)`.

    Raises:
        InputError: see `check_scheduler`.
    """

    def __init__(self, denoiser: TrainedDenoiser, scheduler: Any) -> None:
        super().__init__()
        self.denoiser: Any = denoiser
        self.latents = Standardizer(denoiser.latent_dim)
        self._trained = self._scheduler = keep_positional(check_scheduler(scheduler))
        self._tried: set[int] = set()  # numbers of steps that the scheduler is known to sample with

    @property
    def scheduler(self) -> Any:
        """The diffusers scheduler that sampling uses."""
        if isinstance(self._scheduler, DDIM):
            self._scheduler = of_diffusers(self._scheduler.config)
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self._scheduler = keep_positional(check_scheduler(scheduler, self._trained))
        self._tried = set()

    def trained_with(self, setting: str) -> Any:
        """A setting of the scheduler of training, such as `prediction_type`."""
        return getattr(self._trained.config, setting, None)

    @torch.no_grad()
    def sample(
        self,
        embeds: Tensor,
        *,
        num_inference_steps: int = 20,
        generator: Sequence[Generator] | Generator | None = None,
        guide: Callable[[Denoiser], Denoiser] | None = None,
        temperature: float = 1.0,
        on_step: Callable[[int, Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Draw one latent per embedding.

        Args:
            embeds: with shape (B, E).
            num_inference_steps: denoising steps, from 1 to T.
            generator: one for all, or one per row; with one per row, a row does not depend on the rest of the
                batch.
            guide: turns the denoiser into a guided one, e.g. `lambda d: ClassifierFreeGuidance(d, 1.5)`.
            temperature: factor on the noise that sampling starts from. Below 1, samples differ less from each
                other; at 0, a deterministic scheduler gives one latent per embedding.
            on_step: (number of the step, its time, standardised latents (B, Z)) → latents to go on with; called after each step.

        Returns:
            Latents, no longer standardised, with shape (B, Z).

        Raises:
            InputError: the number of steps is not in 1…T or none for this scheduler (`check_steps`), the
                temperature is negative, or the latents are not finite.
        """
        check_range(temperature=temperature)
        trained_steps = self._scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= trained_steps:
            raise InputError(
                f"num_inference_steps must be from 1 to {trained_steps} (the schedule), got {num_inference_steps}"
            )
        if num_inference_steps not in self._tried:
            check_steps(self._scheduler, num_inference_steps)
            self._tried.add(num_inference_steps)
        denoiser: Denoiser = guide(self.denoiser) if guide else self.denoiser
        # Schedulers hold the state of one run (multistep solvers a history), so each run gets a copy.
        scheduler = copy.deepcopy(self._scheduler)
        scheduler.set_timesteps(num_inference_steps, device=embeds.device)
        rows = list(generator) if isinstance(generator, Sequence) else generator
        z = draw_noise(embeds, self.denoiser.latent_dim, rows) * (temperature * scheduler.init_noise_sigma)
        extra = {"generator": rows} if takes_generator(scheduler) else {}
        for step, time in enumerate(scheduler.timesteps):
            prediction = denoiser(scheduler.scale_model_input(z, time), time.expand(len(z)), embeds)
            # Some schedulers compute in single precision whatever they are given.
            z = scheduler.step(prediction, time, z, **extra).prev_sample.to(embeds.dtype)
            z = z if on_step is None else on_step(step, time, z)
        latents: Tensor = self.latents.inverse(z)
        if not latents.isfinite().all():
            row = int((~latents.isfinite().all(dim=1)).nonzero()[0])
            raise InputError(
                f"the latents sampled for embedding {row} are NaN or infinite: give a smaller guidance scale or more steps, "
                "and check that the embedding and the denoiser's parameters are finite"
            )
        return latents

    def save_pretrained(self, folder: str | Path) -> None:
        """Write denoiser, scheduler and latent statistics into `folder`."""
        folder = Path(folder)
        self.denoiser.save_pretrained(folder / "denoiser")
        save_scheduler(self.scheduler, folder / "scheduler")
        write_tensors(folder / "latents.safetensors", self.latents.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, trust_remote_code: bool = False) -> DiffusionPrior:
        """Read what `save_pretrained` wrote.

        Args:
            folder: the folder.
            trust_remote_code: whether a scheduler's class that is not of diffusers may be imported and run.

        Raises:
            InputError: a file is missing, damaged or of another model, or a number is not finite.
        """
        folder = Path(folder)
        denoiser = load_part(MLPDenoiser, folder / "denoiser")
        prior = cls(denoiser, load_scheduler(folder / "scheduler", trust_remote_code))
        path = folder / "latents.safetensors"
        try:
            compare_state(prior.latents, read_shapes(path))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path} does not hold the statistics of {prior.denoiser.latent_dim} latents: {error}"
            ) from error
        statistics = read_tensors(path)
        check_finite(statistics, str(path))
        if not bool((statistics["std"] > 0).all()):
            raise InputError(f"{path} holds a standard deviation that is not above 0: train the prior again")
        prior.latents.load_state_dict(statistics)
        return prior.eval()
