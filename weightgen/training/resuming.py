"""How a run writes its checkpoints, and goes on from the newest one. For recipes only."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from weightgen.errors import InputError
from weightgen.storage.files import read_metadata, write_json
from weightgen.storage.parts import read_names
from weightgen.training.checkpoint import (
    KeptInFiles,
    check_parts,
    checkpoints,
    collected,
    own_tensors,
    put_back,
    read_record,
    write_collected,
)
from weightgen.training.divergence import Health
from weightgen.training.log import trim_metrics
from weightgen.training.runs import METRICS, RUN, Run, record


def write_checkpoint(run: Run) -> None:
    """Write the checkpoint of the steps done, and remove those that are too many; the main process does it for all."""
    found = collected(run.parts, run.optimizer, run.done)
    if run.accelerator.is_main_process:
        write_collected(run.folder / f"checkpoint-{run.done:08d}.safetensors", *found)
        for old in checkpoints(run.folder)[run.keep_checkpoints :]:
            old.unlink()
        _keep_files(run)


def _keep_files(run: Run) -> None:
    """Remove files beside the checkpoints that none of them needs."""
    stored = [read_metadata(path).get("checkpoint") for path in checkpoints(run.folder)]
    facts = [json.loads(json.loads(text)["record"])["facts"] for text in stored if text]
    for name, part in run.parts.items():
        if isinstance(part, KeptInFiles):
            part.keep([known[name] for known in facts if name in known])


def resume(run: Run, optimizer: Optimizer | None = None, **parts: Any) -> None:
    """Say what changes in a run, and go on from its newest checkpoint if there is one.

    Args:
        run: the run.
        optimizer: its optimiser.
        **parts: modules, averages and `Best` by name: all that has to be stored for the run to go on.

    Raises:
        InputError: a checkpoint of another model, or too little room on the disk.
    """
    run.health = Health(optimizer)
    run.parts, run.optimizer = parts | {"health": run.health}, optimizer
    _check_room(run)
    damaged = _read_newest(run)
    run.accelerator.wait_for_everyone()
    if run.accelerator.is_main_process:
        for (
            path
        ) in damaged:  # they would be read again with the next checkpoint, and take the place of whole ones
            path.unlink()
    if run.phases[-1]["from_step"] is None:
        run.phases[-1]["from_step"] = run.done
    if run.accelerator.is_main_process:
        write_json(run.folder / RUN, record(run))
        trim_metrics(run.folder / METRICS, run.done)
        if run.done:
            print(f"{run.name}: goes on after step {run.done}", file=sys.stderr)
    run.accelerator.wait_for_everyone()


def _read_newest(run: Run) -> list[Path]:
    """Go on from the newest checkpoint that is whole; newer, damaged ones are reported and returned."""
    damaged = []
    for path in checkpoints(run.folder):
        try:
            record = read_record(path)
            _check_version(run, path)
            check_parts(path, run.parts, record["facts"])
        except InputError as error:
            if " is a checkpoint of " in str(error):
                raise
            print(f"warning: {error}; the checkpoint before it is used", file=sys.stderr)
            damaged.append(path)
        else:
            run.done = put_back(path, record, run.parts, run.optimizer)
            break
    return damaged


def _check_version(run: Run, path: Path) -> None:
    """Refuse a checkpoint that holds what lies in files beside it now."""
    for name, part in run.parts.items():
        if isinstance(part, KeptInFiles) and any(known.startswith(f"{name}/") for known in read_names(path)):
            raise InputError(
                f"{path} is a checkpoint of an earlier version: go on with that version, or remove {run.folder} to begin anew"
            )


def _check_room(run: Run) -> None:
    """Refuse to begin where the checkpoints will not fit: parameters, and twice as much for an optimiser such as Adam."""
    trained = run.optimizer.param_groups if run.optimizer is not None else []
    beside = [part.module for part in run.parts.values() if isinstance(part, KeptInFiles)]
    kept = [value for part in beside for value in part.state_dict().values()]
    states = [*kept, *own_tensors(run.parts)[0].values()]
    size = sum(value.nbytes for value in states) + 2 * sum(p.nbytes for g in trained for p in g["params"])
    needed, free = size * (run.keep_checkpoints + 1), shutil.disk_usage(run.folder).free
    if needed > free:
        fewer = ", or write keep_checkpoints=1" if run.keep_checkpoints > 1 else ""
        raise InputError(
            f"{run.folder} needs about {needed / 1e9:.1f} GB for checkpoints, and {free / 1e9:.1f} GB are free: "
            f"make room, or choose another output{fewer}"
        )
