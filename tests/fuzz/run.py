"""A long fuzz run: python -m tests.fuzz.run [EXAMPLES] [MINUTES]. Writes results/trust/fuzz.json; `make fuzz` calls it.

It goes on from the examples that the report counts already, and takes the target that has the fewest first: it can be stopped at any time.
A target in which faults were found begins anew. Remove the report to begin anew with all.

Each target runs in a process of its own, whose address space is limited to what it has after its imports and 6 GB more. So a crash of the
interpreter, and memory beyond the limit, count as faults.
"""

import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPARE = 6 * 10**9
PART = 2000  # examples of one process, after which the report is written
NOTHING = {"examples": 0, "seconds": 0.0, "peak_gb": 0.0, "parts": 0}
BATCH = 200  # examples of one call of hypothesis, after which the time is looked at


def attack(name: str, examples: int, seconds: float) -> None:
    """Run one target in this process, and print what came of it as the last line."""
    from hypothesis import Phase, given, seed, settings

    from tests.fuzz.targets import made
    from tests.fuzz.test_fuzz import CALM, check
    from weightgen.reports.timing import largest_memory

    done, faults, began = 0, [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = made(name, Path(folder))
        size = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size + SPARE, size + SPARE))

        def count(case):
            nonlocal done
            done += 1
            check(target, case)

        how = settings(max_examples=BATCH, deadline=None, database=None, suppress_health_check=CALM,
                       phases=[Phase.generate], report_multiple_bugs=False)  # fmt: skip
        while done < examples and time.monotonic() - began < seconds:
            try:
                seed(random.SystemRandom().getrandbits(60))(how(given(target.inputs)(count)))()
            except BaseException as error:
                notes = " ".join(getattr(error, "__notes__", []))
                faults.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]} {notes[:600]}")
    peak = largest_memory() / 1e9
    print(json.dumps({"examples": done, "seconds": round(time.monotonic() - began, 1), "peak_gb": round(peak, 2),
                      "faults": faults}))  # fmt: skip


def main(examples: int, minutes: float) -> None:
    """Run all targets in parts, or those in FUZZ_TARGETS; go on from the counts in the report."""
    from tests.fuzz.targets import TARGETS

    path, began = ROOT / "results/trust/fuzz.json", time.monotonic()
    report = json.loads(path.read_text())["targets"] if path.is_file() else {}
    chosen = os.environ.get("FUZZ_TARGETS", "").split() or list(TARGETS)
    for name in chosen:
        if name not in report or report[name]["faults"]:
            report[name] = dict(NOTHING, faults=[])
    while (seconds := 60 * minutes - (time.monotonic() - began)) > 0:
        name = min(chosen, key=lambda each: report[each]["examples"])
        left = -(-examples // len(TARGETS)) - report[name]["examples"]
        if left <= 0:
            return
        report[name] = added(report[name], run_part(name, min(left, PART), seconds))
        print(name, json.dumps(report[name]), flush=True)
        write(report, path)


def run_part(name: str, examples: int, seconds: float) -> dict:
    """Run one target in a process of its own; a process that does not end well is a fault, and counts no examples."""
    words = [sys.executable, "-m", "tests.fuzz.run", name, str(examples), str(seconds)]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    return dict(NOTHING, faults=[f"status {done.returncode}: {done.stderr[-600:]}"])


def added(before: dict, part: dict) -> dict:
    """What a target has done, with one more part."""
    return {
        "examples": before["examples"] + part["examples"],
        "seconds": round(before["seconds"] + part["seconds"], 1),
        "peak_gb": max(before["peak_gb"], part["peak_gb"]),
        "parts": before["parts"] + 1,
        "faults": before["faults"] + part["faults"],
    }


def write(report: dict, path: Path) -> None:
    """Write the report as JSON, and as a table beside it."""
    facts = {key: sum(part.get(key, 0) for part in report.values()) for key in ("examples", "seconds")}
    facts |= {
        "faults": sum(len(part["faults"]) for part in report.values()),
        "peak_gb": max(part.get("peak_gb", 0) for part in report.values()),
        "command": "make fuzz",
        "memory_limit": "address space after imports + 6 GB",
        "targets": report,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=2) + "\n")
    rows = [("all", facts | {"faults": [None] * facts["faults"]}), *report.items()]
    table = ["| target | examples | faults | seconds | peak memory, GB |", "|---|---|---|---|---|"]
    for name, part in rows:
        cells = (
            name,
            part["examples"],
            len(part["faults"]),
            round(part.get("seconds", 0)),
            part.get("peak_gb", "-"),
        )
        table.append("| " + " | ".join(map(str, cells)) + " |")
    path.with_suffix(".md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        attack(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    else:
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else 100_000,
            float(sys.argv[2]) if len(sys.argv) > 2 else 600,
        )
