"""Schedulers of diffusers: which of them a prior can sample with, and how they are read from disk."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from weightgen.errors import InputError, check_sizes
from weightgen.priors.parametrisation import check_kind
from weightgen.storage.files import read_json


def paper_schedule(prediction_type: str = "epsilon", num_train_timesteps: int = 350) -> Any:
    """DDIM with the paper's schedule: T = 350 steps with β linear from 1e-4 to 0.06.

    "linear" is meant here: diffusers' "scaled_linear", which is usual for images, is linear in √β.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, table 3.
    """
    from diffusers import DDIMScheduler

    check_sizes(num_train_timesteps=num_train_timesteps)
    return DDIMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.06,
        prediction_type=prediction_type,
        clip_sample=False,
    )


def check_scheduler(scheduler: Any, trained: Any = None) -> Any:
    """Return the scheduler, if a prior can sample with it.

    Args:
        scheduler: a diffusers scheduler.
        trained: the scheduler that the prior was trained with, if any.

    Raises:
        InputError: it clips samples to [-1, 1] (`clip_sample`, the default of diffusers' DDPM and DDIM, or
            `thresholding`), which are pixels and no latents; its noise levels are not finite; its prediction
            type is unknown; or its prediction type or training schedule differs from that of `trained`.
    """
    name = type(scheduler).__name__
    for option in ("clip_sample", "thresholding"):
        if getattr(scheduler.config, option, False):
            raise InputError(
                f"{name} has {option}=True, which cuts latents to [-1, 1] and destroys them: build it with {option}=False"
            )
    levels = getattr(scheduler, "alphas_cumprod", None)
    if isinstance(levels, torch.Tensor) and not bool(((levels >= 0) & (levels <= 1)).all()):
        raise InputError(f"{name} has noise levels (betas) that are not finite numbers in [0, 1]")
    if trained is None:
        check_kind(scheduler)
        return scheduler
    advice = f"write {name}.from_config(pipe.scheduler.config)"
    for setting in ("prediction_type", "num_train_timesteps"):
        expected, got = (getattr(each.config, setting, None) for each in (trained, scheduler))
        if expected != got:
            raise InputError(
                f"the prior was trained with {setting}={expected!r}, but {name} has {got!r}: {advice}"
            )
    expected, got = (getattr(each, "alphas_cumprod", None) for each in (trained, scheduler))
    if expected is None or got is None or not torch.allclose(expected.cpu(), got.cpu(), rtol=1e-4, atol=1e-6):
        raise InputError(f"{name} has other noise levels (betas) than the prior was trained with: {advice}")
    return scheduler


def keep_positional(scheduler: Any) -> Any:
    """Make `from_config` keep the arguments that were given to the scheduler by position; diffusers drops them.

    Diffusers records them as defaults, which another class replaces by its own defaults.
    """
    settings = inspect.signature(type(scheduler).__init__).parameters
    recorded = scheduler.config.get("_use_default_values", [])
    defaults = [name for name in recorded if scheduler.config[name] == settings[name].default]
    if len(defaults) < len(recorded):
        scheduler.register_to_config(_use_default_values=defaults)
    return scheduler


def load_scheduler(folder: Path) -> Any:
    """Read a diffusers scheduler of any class.

    Raises:
        InputError: the folder holds none, or a setting is out of range.
    """
    import diffusers

    config = read_json(folder / "scheduler_config.json")
    name = config.get("_class_name", "") if isinstance(config, dict) else ""
    kind = getattr(diffusers, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
        raise InputError(f"{folder} names {name!r}, which is no scheduler of diffusers")
    check_sizes(num_train_timesteps=config.get("num_train_timesteps", 1000))
    try:
        return kind.from_config(config)  # type: ignore[attr-defined]
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} does not hold the settings of a {name}: {reason:.200}") from error
