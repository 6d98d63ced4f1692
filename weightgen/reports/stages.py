"""Stages: commands that each make one file or folder; what is there already is reused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from weightgen.errors import InputError
from weightgen.storage.files import read_json, write_json


class Stage(NamedTuple):
    """One step of a long way.

    Attributes:
        makes: the file or folder that is there when the stage is done, and never before.
        command: what follows `python` on the command line.
        needs: the names of the stages whose output this one reads.
        cheap: whether the output is made anew, instead of refused, where a stage that it needs has to run.
    """

    makes: Path
    command: list[str]
    needs: tuple[str, ...] = ()
    cheap: bool = False


def listed(values: Iterable[object]) -> str:
    """A list as a recipe reads it on the command line: "[1,2]"."""
    return f"[{','.join(map(str, values))}]"


def add_recipe(
    stages: dict[str, Stage],
    name: str,
    makes: Path,
    script: str,
    config: str | None = None,
    of: Mapping[str, str] | None = None,
    settings: Mapping[str, object] | None = None,
    needs: Sequence[str] = (),
    cheap: bool = False,
) -> None:
    """Add a stage that runs a recipe.

    Args:
        stages: to add it to.
        name: of the stage.
        makes: the output.
        script: the recipe, from the root of the repository.
        config: a YAML file in recipes/configs.
        of: a setting of the recipe → the stage whose output it is.
        settings: further settings of the recipe.
        needs: further stages that it needs.
        cheap: see `Stage`.

    Raises:
        InputError: there is a stage of that name.
    """
    if name in stages:
        raise InputError(
            f"two of what is to run would be called {name}: choose names that differ in letters or digits"
        )
    parts = dict(of or {})
    words = {
        **(settings or {}),
        **{key: stages[other].makes for key, other in parts.items()},
        "output": makes,
    }
    chosen = ["--config", f"recipes/configs/{config}.yaml"] if config else []
    command = [
        script,
        *chosen,
        *(f"{key}={'null' if value is None else value}" for key, value in words.items()),
    ]
    stages[name] = Stage(makes, command, (*needs, *parts.values()), cheap)


def run(command: Sequence[str], root: Path) -> int:
    """Run `python command` in the folder `root` to its end, with the terminal.

    Ctrl-C and SIGTERM are passed on to the command, which is waited for, so that it can end in order.

    Returns:
        Its exit status.

    Raises:
        KeyboardInterrupt: this process got Ctrl-C meanwhile.
        SystemExit: this process got SIGTERM meanwhile, with status 143.
    """
    # The matrices are small: a second thread gains little on an idle machine, and makes everything several times slower on a busy one.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    received: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    # In a process group of its own: the terminal would send Ctrl-C to the command too, which would get it twice.
    process = subprocess.Popen([sys.executable, *command], cwd=root, env=environment, process_group=0)
    try:
        for number in before:
            signal.signal(number, pass_on)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGTERM in received:
        raise SystemExit(128 + signal.SIGTERM)
    if received:
        raise KeyboardInterrupt
    return status


def missing_stages(stages: Mapping[str, Stage]) -> list[str]:
    """The names of the stages that have to run, in order.

    Raises:
        InputError: a stage needs one that does not stand before it; or the output of a stage that is not cheap is there although a
            stage that it needs has to run: it would not fit to what is made anew.
    """
    anew: list[str] = []
    stale: dict[str, str] = {}  # a stage → the stage that it needs and that will be new
    seen: set[str] = set()
    for name, stage in stages.items():
        if unknown := set(stage.needs) - seen:
            raise InputError(f"the stage {name!r} needs {min(unknown)!r}, which is no stage before it")
        seen.add(name)
        new = [other for other in stage.needs if other in anew or other in stale]
        if not stage.makes.exists() or (new and stage.cheap):
            anew.append(name)
        elif new:
            stale[name] = new[0]
    if stale:
        name, part = next(iter(stale.items()))
        listed = ", ".join(str(stages[other].makes) for other in stale)
        raise InputError(
            f"{stages[name].makes} is made of {stages[part].makes}, which is no longer there: "
            f"remove {listed}, and start again"
        )
    return anew


def run_stages(stages: Mapping[str, Stage], root: Path, clock: Path) -> dict[str, float]:
    """Run the stages whose output is not there yet, in order.

    Args:
        stages: by name.
        root: the folder in which the commands run.
        clock: a JSON file that keeps how many seconds each stage took, over interruptions.

    Returns:
        Those seconds.

    Raises:
        InputError: a stage failed, or did not make what it was to make, or another process has made it; or see `missing_stages`.
    """
    seconds: dict[str, float] = read_json(clock) if clock.is_file() else {}
    anew = missing_stages(stages)
    for name, stage in stages.items():
        if name not in anew:
            print(f"[{name}] {stage.makes} is there already: reused", flush=True)
            continue
        if stage.makes.exists() and not stage.cheap:  # it was not there at the start
            raise InputError(
                f"{stage.makes} was made meanwhile by another process: wait for its end, and start again"
            )
        if stage.makes.is_dir():
            shutil.rmtree(stage.makes)
        stage.makes.unlink(missing_ok=True)
        print(f"[{name}] python {' '.join(stage.command)}", flush=True)
        started = time.time()
        status = run(stage.command, root)
        if status or not stage.makes.exists():
            reason = f"ended with status {status}" if status else f"did not make {stage.makes}"
            raise InputError(
                f"the stage {name!r} {reason} (see above); mend it and start again: finished stages are reused"
            )
        seconds[name] = round(time.time() - started, 1)
        write_json(clock, seconds)
        print(f"[{name}] {seconds[name]} s", flush=True)
    return seconds


def claim_folders(folders: Sequence[Path], origin: Mapping[str, Any]) -> None:
    """Mark folders as those of one origin, such as a data set and its settings.

    Raises:
        InputError: a folder holds results of another origin; then none is marked.
    """
    for folder in folders:
        mark = folder / "origin.json"
        if mark.is_file() and read_json(mark) != origin:
            raise InputError(
                f"{folder} holds results of {read_json(mark)}, not of {dict(origin)}: give another folder"
            )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "origin.json", origin)
