"""Processes that are begun to be killed, and what is left of them. For recipes only."""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weightgen.training import checkpoint
from weightgen.training.runs import unfinished


def start(work: Callable[[], None]) -> int:
    """Begin a piece of work in a process of its own, which has all modules loaded already; its number."""
    sys.stdout.flush()
    if number := os.fork():
        return number
    status = 1
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        work()
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        os._exit(status)


def end(number: int) -> int:
    """Wait for a process; its status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def digests(folder: Path) -> dict[str, str]:
    """A digest of every safetensors file below a folder."""
    files = sorted(folder.rglob("*.safetensors"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def slow_writes() -> None:
    """Make the writing of a checkpoint last, so that a kill can hit it: half of the file is there for 0.2 seconds."""
    write = checkpoint.write_tensors

    def slowly(path: Any, tensors: Any, **options: Any) -> None:
        write(path, tensors, **options)
        content = Path(path).read_bytes()
        half = Path(path).with_name(f".{Path(path).name}.00000000.partial")
        Path(path).rename(half)
        half.write_bytes(content[: len(content) // 2])
        time.sleep(0.2)
        half.write_bytes(content)
        half.rename(path)

    checkpoint.write_tensors = slowly  # type: ignore[assignment]


def wait_for_partial(output: Path, process: int, count: int) -> None:
    """Wait until the checkpoint or best state of this number is being written, or the process ends."""
    seen: set[str] = set()
    while len(seen) < count and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        folder = unfinished(output)
        seen |= {path.name for path in folder.glob(".*-*.00000000.partial")}
        time.sleep(0.005)
