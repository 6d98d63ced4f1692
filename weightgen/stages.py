"""Stages: commands that each make one file or folder; what is there already is reused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from weightgen.errors import InputError
from weightgen.files import read_json, write_json


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


def run_stages(stages: Mapping[str, Stage], root: Path, clock: Path) -> dict[str, float]:
    """Run what is not there yet, in order.

    Args:
        stages: by name.
        root: the folder in which the commands run.
        clock: a JSON file that keeps how many seconds each stage took, over interruptions.

    Returns:
        Those seconds.

    Raises:
        InputError: a stage failed, did not make what it was to make, or made it before what it is made of.
    """
    seconds: dict[str, float] = read_json(clock) if clock.is_file() else {}
    fresh: list[str] = []
    for name, stage in stages.items():
        if stage.makes.exists():
            newer = [path for path in fresh if any(path in word for word in stage.command)]
            if newer:
                raise InputError(
                    f"{stage.makes} is older than {newer[0]}, of which it is made: remove it, and start again"
                )
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
        fresh.append(str(stage.makes))
        seconds[name] = round(time.time() - started, 1)
        write_json(clock, seconds)
        print(f"[{name}] {seconds[name]} s", flush=True)
    return seconds
