"""Numbers of a run in TensorBoard, Weights & Biases or Trackio beside metrics.jsonl, by accelerate's trackers. For recipes only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from weightgen.errors import InputError

TRACKERS = {"none": None, "tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
"""Value of `report_to` → package to install."""


def start_tracker(
    accelerator: Accelerator, report_to: str, output: Path, recipe: str, settings: Mapping[str, Any]
) -> None:
    """Begin to report to a tracker; TensorBoard's files lie in OUTPUT.logs.

    Args:
        accelerator: of the run.
        report_to: one of `TRACKERS`.
        output: the output of the run.
        recipe: the name of the project.
        settings: all settings, which the tracker stores.

    Raises:
        InputError: an unknown tracker, or one that is not installed.
    """
    check_tracker(report_to)
    if report_to == "none":
        return
    from accelerate.tracking import filter_trackers

    folder = output.with_name(f"{output.name}.logs")
    accelerator.project_configuration = ProjectConfiguration(logging_dir=str(folder))
    accelerator.log_with = filter_trackers([report_to], str(folder))
    flat = {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in settings.items()
    }
    accelerator.init_trackers(recipe, config=flat)


def check_tracker(report_to: str) -> None:
    """Refuse a tracker before any work.

    Raises:
        InputError: it is unknown, or not installed.
    """
    from accelerate.tracking import get_available_trackers

    if report_to not in TRACKERS:
        raise InputError(f"report_to must be one of {', '.join(TRACKERS)}, got {report_to!r}")
    installed = {str(getattr(each, "value", each)) for each in get_available_trackers()}
    if report_to != "none" and report_to not in installed:
        raise InputError(f"report_to={report_to} needs a package: pip install {TRACKERS[report_to]}")


def report(accelerator: Accelerator, step: int, metrics: Mapping[str, float]) -> None:
    """Report numbers after a step, without those that are not finite; nothing where there is no tracker."""
    if accelerator.trackers:
        accelerator.log({name: value for name, value in metrics.items() if math.isfinite(value)}, step=step)


def close_trackers(accelerator: Accelerator) -> None:
    """Let trackers write what they still hold; the processes go on."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []
