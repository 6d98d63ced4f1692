"""A training run: where it begins or goes on, and how its output appears. For recipes only.

    OUTPUT.unfinished/   run.json (recipe, settings, digests of what it reads), checkpoints, metrics.jsonl, a lock
    OUTPUT/              appears at the end, whole: what was trained, the facts, run.json and metrics.jsonl

A run that finds its own unfinished folder goes on there; one that finds that of other settings is refused.
"""

import fcntl
import inspect
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import MISSING
from torch import Tensor, nn
from torch.optim import Optimizer

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_json, write_json, write_tensors, written_beside
from weightgen.storage.hub import class_path
from weightgen.training.fingerprint import fingerprint

METRICS = "metrics.jsonl"
RUN = "run.json"  # the mark of a folder that a recipe made
FREE = ("output", "resume", "overwrite", "checkpoint_every", "keep_checkpoints", "trust_remote_code")


@dataclass
class RunConfig:
    """The settings that every training recipe has.

    Attributes:
        output: folder to make.
        seed: of all randomness.
        resume: "auto" goes on with an unfinished run of the same settings and data; "never" refuses it.
        overwrite: begin anew, and replace what this recipe wrote to `output` before.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many are kept.
        trust_remote_code: whether components may be classes that are not weightgen's.
    """

    output: str = MISSING
    seed: int = 0
    resume: str = "auto"
    overwrite: bool = False
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    trust_remote_code: bool = False


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


def start_run(cfg: RunConfig, reads: tuple[str, ...] = (), may_change: tuple[str, ...] = ()) -> Run:
    """Begin a run or prepare to go on with it: refuse an output that is not its own, make its folder, seed all randomness.

    Args:
        cfg: the settings of a recipe; call this function from its `main`, whose file names the recipe.
        reads: the settings that name files or folders that the run reads. Their contents count, not their places.
        may_change: settings that a run may go on with changed; a finished run, too, goes on where they ask for more steps.

    Raises:
        InputError: settings out of range, or an output that exists and is not an unfinished run of the same settings and data, is in use
            by another process, or cannot be written.
        SystemExit: with status 0, the run is finished already.
    """
    _check_settings(cfg)
    recipe = Path(inspect.stack()[1].filename).stem
    settings = asdict(cfg)  # type: ignore[call-overload]
    kept = {name: value for name, value in settings.items() if name not in (*FREE, *reads, *may_change)}
    given = {name: settings[name] for name in reads if settings[name] is not None}
    identity = {
        "recipe": recipe,
        "settings": kept,
        "reads": {n: fingerprint(n, path) for n, path in given.items()},
    }
    accelerator = Accelerator(gradient_accumulation_steps=1)
    run = Run(accelerator, recipe, Path(cfg.output), settings, identity)
    if accelerator.is_main_process:
        _prepare(run, cfg, may_change)
    accelerator.wait_for_everyone()
    changed = {name: settings[name] for name in may_change}
    run.phases = read_json(run.folder / RUN)["phases"]
    if not run.phases or {**run.phases[-1], "from_step": None} != {"from_step": None, **changed}:
        run.phases.append({"from_step": None, **changed})
    set_seed(cfg.seed)
    return run


def save_run(
    run: Run,
    facts: dict[str, Any],
    name: str = "training.json",
    tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
    go_on: bool = False,
    **modules: nn.Module,
) -> None:
    """Write the output of a run, which appears whole, and remove what an unfinished run needs.

    Args:
        run: the run.
        facts: what to say of it; the classes of the modules are added.
        name: of the file with the facts.
        tensors: files of tensors to write, by name.
        go_on: whether the newest checkpoint stays, so that the run can go on with more steps.
        **modules: what was trained, and what it needs, each saved in a folder of its name.
    """
    finish(run, lambda folder: _fill(folder, facts, name, tensors or {}, modules), go_on)


def snapshot(run: Run, facts: dict[str, Any], **modules: nn.Module) -> None:
    """Write what `save_run` would write into the folder of the unfinished run, so that others can look at it meanwhile."""
    if run.accelerator.is_main_process:
        _fill(run.folder, facts, "training.json", {}, modules)


def _fill(
    folder: Path,
    facts: dict[str, Any],
    name: str,
    tensors: Mapping[str, Mapping[str, Tensor]],
    modules: Mapping[str, nn.Module],
) -> None:
    for part, module in modules.items():
        with written_beside(folder / part, overwrite=True) as partial:
            module.save_pretrained(partial)  # type: ignore[operator]
    for file, values in tensors.items():
        write_tensors(folder / f"{file}.safetensors", values)
    write_json(folder / name, facts | {part: class_path(module) for part, module in modules.items()})


def finish(run: Run, fill: Callable[[Path], object], go_on: bool = False) -> None:
    """Write the output of a run as `fill`, a function of the folder to fill, says; see `save_run`."""
    if run.accelerator.is_main_process:
        with written_beside(run.output, overwrite=(run.output / RUN).is_file()) as folder:
            folder.mkdir()
            fill(folder)
            log = [run.folder / METRICS]
            kept = sorted(run.folder.glob("checkpoint-*.safetensors"))[-1:] if go_on else []
            for file in (*log, *kept):
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
            write_json(folder / RUN, record(run))
        shutil.rmtree(run.folder)
        if run.lock is not None:
            os.close(run.lock)
        print(f"{run.output}: finished after {run.done} steps{_best(run)}")
    run.accelerator.wait_for_everyone()


def _best(run: Run) -> str:
    """The best scores of a run, for the line that it ends with."""
    facts = [part.facts for part in run.parts.values() if hasattr(part, "facts")]
    shown = (
        f", {k.replace('_', ' ')} {v:.3f}" for one in facts for k, v in one.items() if isinstance(v, float)
    )
    return "".join(shown) + "".join(f" at step {one['step']}" for one in facts)


def record(run: Run) -> dict[str, Any]:
    """What `run.json` holds: the identity of the run, its steps so far, and settings changed on the way."""
    return {**run.identity, "steps": run.done, "phases": run.phases}


def _check_settings(cfg: RunConfig) -> None:
    if cfg.resume not in ("auto", "never"):
        raise InputError(f"expected resume=auto or resume=never, got {cfg.resume!r}")
    if cfg.seed < 0:
        raise InputError(f"expected a seed from 0 up, got {cfg.seed}")
    for name in ("checkpoint_every", "keep_checkpoints", "steps", "batch_size", "validate_every"):
        value = getattr(cfg, name, 1)
        if isinstance(value, int) and value < 1:
            raise InputError(f"expected {name} from 1 up, got {value}")
    if not 0 < getattr(cfg, "lr", 1.0):
        raise InputError(f"expected lr above 0, got {cfg.lr}")  # type: ignore[attr-defined]


def _prepare(run: Run, cfg: RunConfig, may_change: tuple[str, ...]) -> None:
    """Make the folder of the run, or find it; then it is locked and holds `run.json`."""
    folder, output = run.folder, run.output
    if output.exists() and not (output / RUN).is_file():
        raise InputError(
            f"{output} exists already, and no recipe made it: remove it, or choose another output"
        )
    if folder.is_symlink() or (
        folder.exists() and not (folder / RUN).is_file() and any(folder.glob("[!l]*"))
    ):
        raise InputError(
            f"{folder} exists already, and no recipe made it: remove it, or choose another output"
        )
    if output.exists() and not cfg.overwrite:
        _check_finished(run, cfg, may_change)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run.lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}: {error.filename}") from error
    try:
        fcntl.lockf(run.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(f"{output} is in use: another process is writing it") from error
    _remove_rests(run)
    if cfg.overwrite:
        for file in folder.glob("*"):
            if file.name != "lock":
                shutil.rmtree(file) if file.is_dir() else file.unlink()
    elif (folder / RUN).is_file():
        if cfg.resume == "never":
            raise InputError(f"{folder} is an unfinished run: write resume=auto to go on, or overwrite=true")
        _check_same(run, folder, "is an unfinished run")
    elif output.exists():  # it goes on with more steps
        for file in (*output.glob("checkpoint-*.safetensors"), output / METRICS, output / RUN):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
    if not (folder / RUN).is_file():
        write_json(folder / RUN, record(run))


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
            if old.get(name) != new.get(name):
                what = f"with {name}={old.get(name)}, and now {name}={new.get(name)}"
                if part == "reads":
                    what = f"with other contents of {name}={run.settings.get(name)}"
                raise InputError(
                    f"{folder} {state} {what}: write the same, another output, or overwrite=true to begin anew"
                )


def _remove_rests(run: Run) -> None:
    """Remove what killed runs of the same output left half-written."""
    patterns = (f".{run.output.name}.????????.partial", f".{run.output.name}.????????.old")
    rests = [path for pattern in patterns for path in run.output.parent.glob(pattern)]
    for path in (*rests, *run.folder.glob(".*.partial")):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
