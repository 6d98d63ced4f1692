"""A training run: where it begins or goes on, and how its output appears. For recipes only.

    OUTPUT.unfinished/   run.json (recipe, settings, digests of what it reads), checkpoints, the best state, metrics.jsonl, a lock
    OUTPUT/              appears at the end, whole: what was trained, the facts, run.json and metrics.jsonl

A run that finds its own unfinished folder goes on there; one that finds that of other settings is refused.
"""

import fcntl
import glob
import inspect
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from weightgen.errors import InputError, needs
from weightgen.storage.files import StrPath, read_json, write_json
from weightgen.training.fingerprint import fingerprint
from weightgen.training.processes import check_processes, new_accelerator, on_main, shard_above
from weightgen.training.settings import FREE, LATER, RunConfig, check_settings
from weightgen.training.trackers import start_tracker

with needs("train"):
    from accelerate import Accelerator
    from accelerate.utils import set_seed

METRICS = "metrics.jsonl"
RUN = "run.json"  # the mark of a folder that a recipe made


@dataclass
class Run:
    """What the functions of this package know of a run.

    Attributes:
        accelerator: processes and devices.
        recipe: name of the recipe.
        output: folder to make.
        settings: all settings.
        identity: what must be the same for a run to go on.
        done: steps done.
        parts: what changes in the run, by name: modules, averages, the best state.
        optimizer: its optimiser.
        shown: numbers to show in the progress.
        phases: settings that were changed on the way, with the step from which they counted.
        tasks: those of the present step, where it has any.
        source: what `tasks` are rows of, if anything that knows their questions.
        shard_above: numbers of a matrix above which it is sharded, if any is; see `sharding`.
        health: what is remembered to tell that the training diverges.
    """

    accelerator: Accelerator
    recipe: str
    output: Path
    settings: dict[str, Any]
    identity: dict[str, Any]
    done: int = 0
    parts: dict[str, Any] = field(default_factory=dict)
    optimizer: Optimizer | None = None
    shown: dict[str, Any] = field(default_factory=dict)
    phases: list[dict[str, Any]] = field(default_factory=list)
    tasks: Sequence[int] = ()
    source: Any = None
    health: Any = None
    shard_above: int | None = None
    # Active while a loss and its gradient are computed; see `shares`.
    randomness: AbstractContextManager[Any] = field(default_factory=nullcontext)
    lock: int | None = None  # descriptor of the lock file, which the system unlocks when the process ends

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    @property
    def name(self) -> str:
        """The recipe and its output, for messages."""
        return f"{self.recipe} {self.output}"

    @property
    def folder(self) -> Path:
        """What an unfinished run writes to."""
        return unfinished(self.output)

    @property
    def checkpoint_every(self) -> int:
        """Steps between checkpoints."""
        return int(self.settings["checkpoint_every"])

    @property
    def keep_checkpoints(self) -> int:
        """How many checkpoints are kept."""
        return int(self.settings["keep_checkpoints"])


def unfinished(output: StrPath) -> Path:
    """The folder that an unfinished run writes to."""
    output = Path(output)
    return output.with_name(f"{output.name}.unfinished")


def newest_state(output: StrPath) -> Path:
    """The folder with the newest state of a run: that of the unfinished run if it has saved one, else the output."""
    first = unfinished(output)
    return first if (first / "training.json").is_file() else Path(output)


def warn_of_other_data(folder: Path, **reads: str) -> None:
    """Say where a run has read other data than is given: its training classes may be among these.

    Args:
        folder: the run.
        **reads: folders by the name of the setting that named them.
    """
    before = read_json(folder / RUN).get("reads", {}) if (folder / RUN).is_file() else {}
    for name, path in reads.items():
        if name in before and before[name] != fingerprint(name, path):
            print(
                f"warning: {folder} was trained on other data than {name}={path}, and may have seen what it is asked",
                file=sys.stderr,
            )


def start_run(
    cfg: RunConfig,
    reads: tuple[str, ...] = (),
    may_change: tuple[str, ...] = (),
    processes: int | None = None,
) -> Run:
    """Begin a run or prepare to go on with it: refuse an output that is not its own, make its folder, seed all randomness.

    Args:
        cfg: the settings of a recipe; call this function from its `main`, whose file names the recipe.
        reads: the settings that name files or folders that the run reads. Their contents count, not their places.
        may_change: settings that a run may go on with changed; a finished run, too, goes on where they ask for more steps.
        processes: how many the recipe can use; None sets no limit.

    Raises:
        InputError: settings out of range, or an output that exists and is not an unfinished run of the same settings and data, is in use
            by another process, or cannot be written.
        SystemExit: with status 0, the run is finished already.
    """
    check_settings(cfg)
    _check_own(Path(cfg.output))
    recipe = Path(inspect.stack()[1].filename).stem
    settings = asdict(cfg)
    kept = {name: value for name, value in settings.items() if name not in (*FREE, *reads, *may_change)}
    given = {name: settings[name] for name in reads if settings[name] is not None}
    identity = {
        "recipe": recipe,
        "settings": kept,
        "reads": {n: fingerprint(n, path) for n, path in given.items()},
    }
    sharded = shard_above(settings)
    accelerator = new_accelerator(settings.get("mixed_precision", "no"))
    parts = settings.get("gradient_accumulation_steps", 1)
    check_processes(accelerator, settings.get("batch_size"), processes, parts)
    run = Run(accelerator, recipe, Path(cfg.output), settings, identity, shard_above=sharded)
    on_main(accelerator, lambda: _prepare(run, cfg, may_change))
    if accelerator.is_main_process:
        number = accelerator.num_processes
        print(f"{run.name}: {number} process{'es' * (number > 1)} on {run.device.type}", flush=True)
    changed = {name: settings[name] for name in may_change}
    if not run.phases or {**run.phases[-1], "from_step": None} != {"from_step": None, **changed}:
        run.phases.append({"from_step": None, **changed})
    set_seed(cfg.seed)
    start_tracker(run.accelerator, cfg.report_to, run.output, recipe, settings)
    return run


def record(run: Run) -> dict[str, Any]:
    """What `run.json` holds: the identity of the run, its steps so far, and settings changed on the way."""
    return {**run.identity, "steps": run.done, "phases": run.phases}


def _check_own(output: Path) -> None:
    """Refuse an output, or a folder of its unfinished run, that no recipe made."""
    folder = unfinished(output)
    others = {path.name for path in folder.glob("*")} - {"lock"}
    if output.exists() and not (output / RUN).is_file():
        foreign = output
    elif folder.is_symlink() or _has_links(folder) or (others and RUN not in others):
        foreign = folder
    else:
        return
    raise InputError(f"{foreign} exists already, and no recipe made it: remove it, or choose another output")


def _has_links(folder: Path) -> bool:
    """Whether anything in it is a link, through which something else would be written."""
    return any(path.is_symlink() for path in folder.glob("*"))


def _prepare(run: Run, cfg: RunConfig, may_change: tuple[str, ...]) -> None:
    """Make the folder of the run, or find it; then it is locked and holds `run.json`."""
    folder, output = run.folder, run.output
    _check_own(output)
    if output.exists() and not cfg.overwrite:
        _check_finished(run, cfg, may_change)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run.lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}: {error.filename}") from error
    try:
        fcntl.lockf(run.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"{output} is in use: another process is writing it") from error
    _remove_rests(run)
    if [*folder.glob("checkpoint-*")]:  # without one there is nothing to lose
        if cfg.resume == "never" and not cfg.overwrite:
            raise InputError(f"{folder} is an unfinished run: write resume=auto to go on, or overwrite=true")
        try:
            _check_same(run, folder, "is an unfinished run")
        except InputError:
            if not cfg.overwrite:
                raise
            _empty(folder)
    elif output.exists() and not cfg.overwrite:  # it goes on with more steps
        stored = [file for kind in ("checkpoint", "best") for file in output.glob(f"{kind}-*.safetensors")]
        for file in (*stored, output / METRICS, output / RUN):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
    if [*folder.glob("checkpoint-*")]:
        run.phases = read_json(folder / RUN)["phases"]
    write_json(folder / RUN, record(run))


def _empty(folder: Path) -> None:
    """Remove all that an earlier run left in its folder, but the lock."""
    for file in folder.glob("*"):
        if file.name != "lock":
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def _check_finished(run: Run, cfg: RunConfig, may_change: tuple[str, ...]) -> None:
    """Say that a finished run is finished, unless it can go on with more steps."""
    if cfg.resume == "never":
        raise InputError(f"{run.output} exists already: choose another output, or write overwrite=true")
    _check_same(run, run.output, "exists already, and was made")
    done = read_json(run.output / RUN)["steps"]
    if "steps" in may_change and getattr(cfg, "steps", 0) > done and [*run.output.glob("checkpoint-*")]:
        return
    if run.folder.is_dir():  # the run was killed while it tidied up
        shutil.rmtree(run.folder)
    print(f"{run.output}: finished already, after {done} steps")
    raise SystemExit(0)


def _check_same(run: Run, folder: Path, state: str) -> None:
    before = read_json(folder / RUN)
    if before["recipe"] != run.recipe:
        raise InputError(f"{folder} {state} by {before['recipe']}: choose another output")
    for part in ("settings", "reads"):
        old, new = before[part], run.identity[part]
        for name in sorted(old.keys() | new.keys()):
            if old.get(name, LATER.get(name)) != new.get(name, LATER.get(name)):
                what = f"with {name}={old.get(name)}, and now {name}={new.get(name)}"
                if part == "reads":
                    what = f"with other contents of {name}={run.settings.get(name)}"
                raise InputError(
                    f"{folder} {state} {what}: write the same, another output, or overwrite=true to begin anew"
                )


def _remove_rests(run: Run) -> None:
    """Remove what killed runs of the same output left half-written."""
    name = glob.escape(run.output.name)
    patterns = (f".{name}.????????.partial", f".{name}.????????.old", f".{name}.????????.mode")
    rests = [path for pattern in patterns for path in run.output.parent.glob(pattern)]
    for path in (*rests, *run.folder.glob(".*.partial")):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
