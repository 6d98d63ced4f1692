"""Stages: commands that each make one file or folder; what is there already is reused."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from weightgen.errors import InputError
from weightgen.storage.files import read_json, write_json


class Stage(NamedTuple):
    """One step of a long way.

    Attributes:
        makes: the file or folder that is there when the stage is done, and never before.
        command: what follows `python` on the command line.
    """

    makes: Path
    command: list[str]


def run(command: list[str], root: Path) -> int:
    """Run `python command` in the folder `root` to its end, with the terminal; return its exit status."""
    # The matrices are small: a second thread gains little on an idle machine, and makes everything several times slower on a busy one.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    process = subprocess.Popen([sys.executable, *command], cwd=root, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # subprocess.run would kill the stage after a quarter of a second, before it has removed what it had half written.
        # A terminal's Ctrl-C has reached the stage too; only where this process alone was signalled it is told here.
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            process.wait()
        raise


def _names(command: list[str], path: str) -> bool:
    """Whether a command names a path or something below it; `runs/adapted_hnet` is not below `runs/adapted`."""
    return any(re.search(rf"{re.escape(path)}(?![\w.-])", word) for word in command)


def check_order(stages: Mapping[str, Stage]) -> None:
    """Refuse what is there already although something that it is made of is not, before anything is made.

    Raises:
        InputError: naming all that would not fit to what is made anew.
    """
    anew: list[str] = []
    stale: dict[str, str] = {}  # and what each is made of that will be new
    for stage in stages.values():
        path = str(stage.makes)
        new = [other for other in (*anew, *stale) if _names(stage.command, other)]
        if not stage.makes.exists():
            anew.append(path)
        elif new:
            stale[path] = new[0]
    if stale:
        path, part = next(iter(stale.items()))
        raise InputError(
            f"{path} is made of {part}, which is no longer there: remove {', '.join(stale)}, and start again"
        )


def run_stages(stages: Mapping[str, Stage], root: Path, clock: Path) -> dict[str, float]:
    """Run what is not there yet, in order.

    Args:
        stages: by name.
        root: the folder in which the commands run.
        clock: a JSON file that keeps how many seconds each stage took, over interruptions.

    Returns:
        Those seconds.

    Raises:
        InputError: a stage failed, or did not make what it was to make; or see `check_order`.
    """
    seconds: dict[str, float] = read_json(clock) if clock.is_file() else {}
    check_order(stages)
    for name, stage in stages.items():
        if stage.makes.exists():
            print(f"[{name}] {stage.makes} is there already: reused", flush=True)
            continue
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
