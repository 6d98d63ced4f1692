"""Two ways to do one thing, timed in turns in one run, and a report of it. For recipes only."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer


class Pair(NamedTuple):
    """Two ways to do one thing.

    Attributes:
        what: is done.
        one: name of the way that is to be the better one.
        other: name of the way that it is compared with.
        run_one: does it.
        run_other: does it the other way.
        same: whether the results must agree, to a hundredth of their length.
        memory: whether peak memory is measured too.
    """

    what: str
    one: str
    other: str
    run_one: Callable[[], Tensor]
    run_other: Callable[[], Tensor]
    same: bool = True
    memory: bool = False


def measured(
    pair: Pair, device: torch.device, repeats: int = 5, min_seconds: float = 0.1, threads: int = 1
) -> dict[str, Any]:
    """Time both ways of a pair in turns, so that what else runs on the machine slows both.

    Args:
        pair: what to time. If its results must agree, that is checked first.
        device: where it runs.
        repeats: of both ways; who comes first, takes turns.
        min_seconds: of a repeat: what is shorter runs several times.
        threads: of the CPU.

    Returns:
        A row of a report: times, how many times as fast the one way is, and peak memory if wanted.

    Raises:
        AssertionError: the two ways give different numbers.
    """
    runs = {pair.one: pair.run_one, pair.other: pair.run_other}
    results = [run().detach() for run in runs.values()]
    if pair.same:
        # By length: at a kink of a ReLU or a pooling, a single slope may differ by more than rounding.
        distance = ((results[0] - results[1]).norm() / results[1].norm()).item()
        if not distance < 0.01:
            raise AssertionError(f"{pair.what}: the results of the two ways are {distance:.2g} apart")
    timers = {name: Timer("run()", globals={"run": run}, num_threads=threads) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name in list(runs)[:: -1 if repeat % 2 else 1]:
            seconds[name].append(timers[name].blocked_autorange(min_run_time=min_seconds).median)
    ratios = [other / one for one, other in zip(*seconds.values(), strict=True)]
    row: dict[str, Any] = {
        "what": pair.what, "one": pair.one, "other": pair.other, "same_result": pair.same,
        "times_as_fast": {"median": median(ratios), "least": min(ratios), "most": max(ratios)},
        "milliseconds": {name: 1e3 * median(found) for name, found in seconds.items()},
        "seconds": seconds,
    }  # fmt: skip
    if pair.memory:
        row["peak_bytes"] = {name: peak_bytes(run, device) for name, run in runs.items()}
    return row


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


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """What a reader needs to know of the machine, without its name."""
    facts: dict[str, Any] = {
        "torch": torch.__version__, "python": platform.python_version(), "device": device.type, "threads": threads,
        "cores": os.cpu_count(), "cpu": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }  # fmt: skip
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    if hasattr(os, "getloadavg"):
        facts["load_before"] = round(os.getloadavg()[0], 1)
    return facts


def markdown(report: Mapping[str, Any]) -> str:
    """A report as text.

    Args:
        report: `title`, `command`, `machine`, `repeats`, `seconds` (of the whole run) and `rows`, each with a `size`.
    """
    facts, load = report["machine"], report["machine"].get("load_before", "unknown")
    lines = [
        f"# {report['title']}",
        "",
        f"`{report['command']}`: random networks and data, no training. Median of {report['repeats']} repeats in turns and, in brackets, "
        "the least and the most of them; below 1, this is slower. ms and peak memory are those of this / against.",
        "",
        f"torch {facts['torch']} on {facts.get('gpu', facts['device'])}, {facts['threads']} thread(s) of {facts['cores']} cores "
        f"({facts['cpu']}); load before the run {load}; {report['seconds']:.0f} s in all.",
        "",
        "| size | what | this | against | times as fast | ms | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        ratio = row["times_as_fast"]
        speed = f"**{ratio['median']:.2g}** ({ratio['least']:.2g} to {ratio['most']:.2g})"
        cost = " / ".join(f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}" for ms in row["milliseconds"].values())
        peak = " / ".join(f"{count / 1e6:.3g}" for count in row.get("peak_bytes", {}).values())
        cells = [row["size"], row["what"], row["one"], row["other"], speed, cost, peak]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
