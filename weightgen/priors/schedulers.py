"""Schedulers of diffusers: which of them a prior can sample with, and how they are read from disk."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from weightgen.errors import MAX_WIDTH, InputError, check_sizes
from weightgen.priors.ddim import DDIM, is_plain
from weightgen.priors.parametrisation import check_kind
from weightgen.priors.trial import check_steps
from weightgen.storage.files import StrPath, read_json, write_json
from weightgen.storage.hub import MAX_ENTRIES, class_named, class_path

USUAL_STEPS = 20
FOREIGN = "scheduler_class.json"  # names the class of a scheduler that is not one of diffusers


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
        InputError: it is none, or one without betas; it clips samples to [-1, 1] (`clip_sample`, the default
            of diffusers' DDPM and DDIM, or `thresholding`), which are pixels and no latents; its noise levels
            are not finite; it predicts noise where no signal is left; its prediction type is unknown; its
            prediction type or training schedule differs from that of `trained`, or it cannot sample.
    """
    name = type(scheduler).__name__
    if isinstance(scheduler, type) or not all(
        hasattr(scheduler, part) for part in ("config", "set_timesteps", "step")
    ):
        raise InputError(
            f"expected a scheduler of diffusers, such as DDIMScheduler.from_config(pipe.scheduler.config), got {scheduler!r:.60}"
        )
    if not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(
            f"{name} has no noise levels (betas) such as the prior was trained with: use DDIM, DDPM, DPMSolverMultistep, UniPC, "
            "DEIS, Euler, Heun or PNDM"
        )
    for option in ("clip_sample", "thresholding"):
        if getattr(scheduler.config, option, False):
            raise InputError(
                f"{name} has {option}=True, which cuts latents to [-1, 1] and destroys them: build it with {option}=False"
            )
    levels = getattr(scheduler, "alphas_cumprod", None)
    if isinstance(levels, torch.Tensor) and not bool(((levels >= 0) & (levels <= 1)).all()):
        raise InputError(f"{name} has noise levels (betas) that are not finite numbers in [0, 1]")
    _refuse_noise_alone(scheduler)
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
    expected, got = (each.alphas_cumprod.cpu() for each in (trained, scheduler))
    if expected.shape != got.shape or not torch.allclose(expected, got, rtol=1e-4, atol=1e-6):
        raise InputError(f"{name} has other noise levels (betas) than the prior was trained with: {advice}")
    check_steps(scheduler, min(USUAL_STEPS, scheduler.config.num_train_timesteps))
    return scheduler


def _refuse_noise_alone(scheduler: Any) -> None:
    """Refuse ε-prediction whose last time is noise alone: from ε nothing follows about z₀ there, and NaN comes out."""
    ends_in_noise = getattr(scheduler.config, "rescale_betas_zero_snr", False)
    ends_in_noise = ends_in_noise or bool((scheduler.alphas_cumprod <= 0).any())
    if ends_in_noise and getattr(scheduler.config, "prediction_type", None) == "epsilon":
        raise InputError(
            f"{type(scheduler).__name__} ends in noise without signal (rescale_betas_zero_snr), where predicted noise says nothing: "
            "train with prediction_type='v_prediction' or 'sample', or with rescale_betas_zero_snr=False"
        )


def keep_positional(scheduler: Any) -> Any:
    """Make `from_config` keep the arguments that were given to the scheduler by position; diffusers drops them.

    Diffusers records them as defaults, which another class replaces by its own defaults.
    """
    settings = inspect.signature(type(scheduler).__init__).parameters
    recorded = getattr(scheduler.config, "_use_default_values", [])
    defaults = [name for name in recorded if scheduler.config[name] == settings[name].default]
    if len(defaults) < len(recorded):
        scheduler.register_to_config(_use_default_values=defaults)
    return scheduler


def save_scheduler(scheduler: Any, folder: StrPath) -> None:
    """Write a scheduler's settings, and the name of its class where that is not one of diffusers."""
    scheduler.save_pretrained(folder)
    if _kind_of_diffusers(type(scheduler).__name__) is not type(scheduler):
        write_json(Path(folder) / FOREIGN, {"class": class_path(scheduler)})


def load_scheduler(folder: Path, trust_remote_code: bool = False) -> Any:
    """Read a scheduler of any class; `DDIM` for what that computes, which spares the import of diffusers.

    Args:
        folder: what `save_scheduler` wrote.
        trust_remote_code: whether a class that is not of diffusers may be imported and run.

    Raises:
        InputError: the folder holds none, or a setting is out of range.
    """
    config = read_json(folder / "scheduler_config.json", infinite=True)
    config = config if isinstance(config, dict) else {}
    name = str(config.get("_class_name", ""))
    if (folder / FOREIGN).is_file():
        record = read_json(folder / FOREIGN)
        kind = class_named(str(record.get("class") if isinstance(record, dict) else None), trust_remote_code)
    else:
        kind = DDIM if is_plain(config) else _kind_of_diffusers(name)
    if kind is None:
        raise InputError(f"{folder} names {name!r}, which is no scheduler of diffusers")
    check_sizes(num_train_timesteps=config.get("num_train_timesteps", 1000))
    for name_of, value in config.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if (whole and abs(value) > MAX_WIDTH) or (isinstance(value, list) and len(value) > MAX_ENTRIES):
            raise InputError(f"{folder} has {name_of}={str(value)[:20]}...: no scheduler needs that much")
    if kind is DDIM:
        return DDIM(config)
    try:
        return kind.from_config(config)
    except (TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} does not hold the settings of a {name}: {reason:.200}") from error


def of_diffusers(config: Any) -> Any:
    """The scheduler of diffusers whose settings a `DDIM` has."""
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(vars(config))


def _kind_of_diffusers(name: str) -> Any:
    import diffusers

    kind = getattr(diffusers, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin) else None
