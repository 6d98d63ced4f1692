"""HyperLDM's prior: latent diffusion from the embedding of a task to the latents of its weights.

Notation: z₀ standardised latent, z_t the same after t steps of noise, ε the noise, e the embedding, T training steps of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from weightgen.errors import InputError
from weightgen.nn.standardizer import Standardizer
from weightgen.priors.denoiser import MLPDenoiser
from weightgen.protocols import Denoiser
from weightgen.storage.files import read_json, read_tensors, write_tensors
from weightgen.storage.hub import load_part


def check_scheduler(scheduler: Any) -> Any:
    """Return the scheduler, unless it clips samples: latents are not pixels in [-1, 1], and clipping destroys them.

    Raises:
        InputError: `clip_sample` (the default of diffusers' DDPM and DDIM) or `thresholding` is on.
    """
    for option in ("clip_sample", "thresholding"):
        if getattr(scheduler.config, option, False):
            raise InputError(
                f"{type(scheduler).__name__} has {option}=True, which cuts latents to [-1, 1] and destroys them: "
                f"build it with {option}=False"
            )
    return scheduler


class DiffusionPrior(nn.Module):
    """p(z | e) by reversing a diffusion of standardised latents.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.2, algorithm 13
        (true linear β from 1e-4 to 0.06, T = 350).

    Args:
        denoiser: predicts what `scheduler.config.prediction_type` says.
        scheduler: a diffusers scheduler that does not clip samples; can be exchanged later (`prior.scheduler = …`).
    """

    def __init__(self, denoiser: MLPDenoiser, scheduler: Any) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.latents = Standardizer(denoiser.latent_dim)
        self._scheduler = check_scheduler(scheduler)

    @property
    def scheduler(self) -> Any:
        """The diffusers scheduler that sampling uses."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self._scheduler = check_scheduler(scheduler)

    @torch.no_grad()
    def sample(
        self,
        embeds: Tensor,
        *,
        num_inference_steps: int = 20,
        generator: Sequence[Generator] | Generator | None = None,
        guide: Callable[[Denoiser], Denoiser] | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw one latent per embedding.

        Args:
            embeds: with shape (B, E).
            num_inference_steps: denoising steps, from 1 to T.
            generator: one for all, or one per row; with one per row, a row does not depend on the rest of the batch.
            guide: turns the denoiser into a guided one, e.g. `lambda d: ClassifierFreeGuidance(d, 1.5)`.
            temperature: times the noise that sampling starts from. Below 1, samples differ less and lie nearer to the middle of
                what is likely; at 0, a scheduler that adds no noise of its own gives one latent per embedding.

        Returns:
            Latents, no longer standardised, with shape (B, Z).

        Raises:
            InputError: the number of steps is not in 1…T, or the temperature is negative.
        """
        if not 0 <= temperature < float("inf"):
            raise InputError(f"temperature must be a number from 0 up, got {temperature}")
        trained_steps = self.scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= trained_steps:
            raise InputError(
                f"num_inference_steps must be from 1 to {trained_steps} (the schedule), got {num_inference_steps}"
            )
        from diffusers.utils.torch_utils import randn_tensor

        denoiser: Denoiser = guide(self.denoiser) if guide else self.denoiser
        # Schedulers hold the state of one run (multistep solvers a history): each run gets a fresh one.
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(num_inference_steps, device=embeds.device)
        rows = list(generator) if isinstance(generator, Sequence) else generator
        shape = (len(embeds), self.denoiser.latent_dim)
        noise = randn_tensor(shape, generator=rows, device=embeds.device)
        z = noise * (temperature * scheduler.init_noise_sigma)
        extra = {"generator": rows} if _takes_generator(scheduler) else {}
        for time in scheduler.timesteps:
            prediction = denoiser(scheduler.scale_model_input(z, time), time.expand(len(z)), embeds)
            z = scheduler.step(prediction, time, z, **extra).prev_sample
        return self.latents.inverse(z)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write denoiser, scheduler and latent statistics into `folder`."""
        folder = Path(folder)
        self.denoiser.save_pretrained(folder / "denoiser")
        self.scheduler.save_pretrained(folder / "scheduler")
        write_tensors(folder / "latents.safetensors", self.latents.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DiffusionPrior:
        """Read what `save_pretrained` wrote."""
        folder = Path(folder)
        prior = cls(load_part(MLPDenoiser, folder / "denoiser"), load_scheduler(folder / "scheduler"))
        prior.latents.load_state_dict(read_tensors(folder / "latents.safetensors"))
        return prior.eval()


def load_scheduler(folder: Path) -> Any:
    """Read a diffusers scheduler, whatever its class.

    Raises:
        InputError: the folder holds none.
    """
    import diffusers

    config = read_json(folder / "scheduler_config.json")
    name = config.get("_class_name", "") if isinstance(config, dict) else ""
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise InputError(f"{folder} names {name!r}, which is no scheduler of diffusers")
    return kind.from_config(config)  # type: ignore[attr-defined]


def _takes_generator(scheduler: Any) -> bool:
    import inspect

    return "generator" in inspect.signature(scheduler.step).parameters
