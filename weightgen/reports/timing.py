"""Several ways to do one thing, timed in turns in one run; peak memory."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from weightgen.errors import InputError


class Took(NamedTuple):
    """The time that one call took.

    Attributes:
        seconds: on the clock.
        cpu_seconds: of all threads of this process.
    """

    seconds: float
    cpu_seconds: float


def largest_memory() -> int:
    """The largest memory of this process so far in bytes, with the pages of files that it maps; on Linux.

    `getrusage` counts the process that started this one as well.
    """
    words = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(words["VmHWM"].split()[0]) * 1024


def timed(run: Callable[[], object], min_seconds: float = 0.0) -> Took:
    """Time one call of `run`, as the mean over so many calls that they take `min_seconds` together."""
    calls, wall, cpu = 0, time.perf_counter(), time.process_time()
    while not calls or time.perf_counter() - wall < min_seconds:
        run()
        calls += 1
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
    return Took((time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls)


def time_in_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int = 5, min_seconds: float = 0.0
) -> dict[str, list[Took]]:
    """Time several calls in turns, so that what else runs on the machine slows all of them.

    Args:
        runs: by name. Each is called once before, as a warm-up.
        repeats: of each; the order is reversed from one repeat to the next.
        min_seconds: of a repeat, see `timed`.

    Returns:
        The times of every repeat, by name.
    """
    for run in runs.values():
        run()
    took: dict[str, list[Took]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name in list(runs)[:: -1 if repeat % 2 else 1]:
            took[name].append(timed(runs[name], min_seconds))
    return took


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most memory on `device` that `run` holds at a time, above what was held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


def check_device(name: str) -> torch.device:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: naming it.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"cannot compute on {name!r}: {str(error).splitlines()[0]}") from error


def machine(device: torch.device) -> dict[str, Any]:
    """What a reader needs to know of the machine, without its name."""
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    if hasattr(os, "getloadavg"):
        facts["load_before"] = round(os.getloadavg()[0], 1)
    return facts
