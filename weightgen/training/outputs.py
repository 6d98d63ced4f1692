"""The output of a run, which appears whole or not at all. For recipes only."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from weightgen.storage.files import write_json, written_beside
from weightgen.storage.hub import class_path
from weightgen.training.best import Best
from weightgen.training.checkpoint import checkpoints
from weightgen.training.runs import METRICS, RUN, Run, record
from weightgen.training.sharding import put_together
from weightgen.training.trackers import close_trackers


def save_run(
    run: Run,
    facts: dict[str, Any],
    name: str = "training.json",
    fill: Callable[[Path], object] | None = None,
    go_on: bool = False,
    **modules: nn.Module,
) -> None:
    """Write the output of a run, which appears whole, and remove what an unfinished run needs.

    Args:
        run: the run.
        facts: what to say of it; the classes of the modules are added.
        name: of the file with the facts.
        fill: writes more into the folder that it is given.
        go_on: whether the newest checkpoint stays, with the best state, so that the run can go on with more steps.
        **modules: what was trained, and what it needs, each saved in a folder of its name.
    """

    def filled(folder: Path) -> None:
        _fill(folder, facts, name, modules)
        if fill is not None:
            fill(folder)

    finish(run, filled, go_on)


def snapshot(run: Run, facts: dict[str, Any], **modules: nn.Module) -> None:
    """Write what `save_run` would write into the folder of the unfinished run, so that others can look at it meanwhile."""
    if run.accelerator.is_main_process:
        _fill(run.folder, facts, "training.json", modules)


def _fill(
    folder: Path,
    facts: dict[str, Any],
    name: str,
    modules: Mapping[str, nn.Module],
) -> None:
    for part, module in modules.items():
        with written_beside(folder / part, overwrite=True) as partial:
            module.save_pretrained(partial)  # type: ignore[operator]
    write_json(folder / name, facts | {part: class_path(module) for part, module in modules.items()})


def finish(run: Run, fill: Callable[[Path], object], go_on: bool = False) -> None:
    """Write the output of a run as `fill`, a function of the folder to fill, says; see `save_run`."""
    for part in run.parts.values():
        if isinstance(part, nn.Module):
            put_together(part)
    run.accelerator.wait_for_everyone()  # another process may still read the best state from the folder
    if run.accelerator.is_main_process:
        with written_beside(run.output, overwrite=(run.output / RUN).is_file()) as folder:
            folder.mkdir()
            fill(folder)
            log = [run.folder / METRICS]
            kept = checkpoints(run.folder)[:1] if go_on else []
            best = [part.path(part.facts) for part in run.parts.values() if isinstance(part, Best)]
            for file in (*log, *kept, *(best if go_on else [])):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
            write_json(folder / RUN, record(run))
        shutil.rmtree(run.folder)
        if run.lock is not None:
            os.close(run.lock)
        close_trackers(run.accelerator)
        print(f"{run.output}: finished after {run.done} steps{_best(run)}")
    run.accelerator.wait_for_everyone()


def _best(run: Run) -> str:
    """The best scores of a run, for the line that it ends with."""
    facts = [part.facts for part in run.parts.values() if hasattr(part, "facts")]
    shown = (
        f", {k.replace('_', ' ')} {v:.3f}" for one in facts for k, v in one.items() if isinstance(v, float)
    )
    return "".join(shown) + "".join(f" at step {one['step']}" for one in facts)
