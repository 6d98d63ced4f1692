"""Measure how fast data/meta_vqa/prepare.py is at full size, against the fastest JSON parsers that are well kept.

    python recipes/benchmarks/meta_vqa.py output=results/bench/meta_vqa.json

Writes files of the official VQA v2 format and size (658,111 questions, as many annotations with ten human answers each, 0.6 GB; made up,
from a seed), then measures, each in a process of its own and one after the other: the whole `prepare.py`, from start to exit, and only
the parsing of the same four files by each parser, file by file. 4 minutes on 2 cores.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from made_up_vqa import make_files
from tqdm import tqdm

from weightgen import training
from weightgen.errors import InputError
from weightgen.storage.files import read_json, write_json

PREPARE = Path(__file__).resolve().parents[2] / "data/meta_vqa/prepare.py"
# The parse alone: reading the bytes is not timed, and one file is let go before the next is parsed.
PARSE = """
import json, msgspec, orjson, resource, sys, time
parse = {"orjson": orjson.loads, "msgspec": msgspec.json.decode, "json": json.loads}[sys.argv[1]]
seconds = cpu = 0.0
for path in sys.argv[2:]:
    data = open(path, "rb").read()
    start, cpu_start = time.perf_counter(), time.process_time()
    content = parse(data)
    seconds += time.perf_counter() - start
    cpu += time.process_time() - cpu_start
    del content, data
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_gb": peak}))
"""
PARSERS = ("orjson", "msgspec", "json")
LEAST = {"seconds": min, "cpu_seconds": min, "peak_gb": max}  # over the repeats


@dataclass
class Config:
    output: str = training.MISSING  # JSON file
    vqa_dir: str | None = None  # keep the files here and use them again; by default a temporary folder
    repeats: int = 3  # runs of each: the least time and the highest peak count
    scale: float = 1.0  # share of the full size, for a trial


def prepare(folder: Path, output: Path) -> dict[str, float]:
    """Time the command as a user runs it: interpreter start, imports, reading, tasks, card and picture."""
    command = [sys.executable, str(PREPARE), "--vqa-dir", str(folder), "--output-dir", str(output)]
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise InputError(f"prepare.py failed with wait status {status}; run it by hand: {' '.join(command)}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"seconds": perf_counter() - start, "cpu_seconds": cpu, "peak_gb": usage.ru_maxrss / 2**20}


def measure(folder: Path, scratch: Path, repeats: int) -> dict[str, Any]:
    """Run everything `repeats` times in turn."""
    files = sorted(map(str, folder.glob("v2_*.json")))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("prepare", *PARSERS)}
    for i in tqdm(range(repeats), desc="measuring", unit="round"):
        runs["prepare"].append(prepare(folder, scratch / f"meta_vqa_{i}"))
        for name in PARSERS:
            command = [sys.executable, "-c", PARSE, name, *files]
            runs[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    found = {
        name: {what: least(each[what] for each in rounds) for what, least in LEAST.items()}
        for name, rounds in runs.items()
    }
    fastest = {what: min(found[name][what] for name in PARSERS) for what in ("seconds", "cpu_seconds")}
    return {
        "files_gb": sum(os.path.getsize(path) for path in files) / 1e9,
        "tasks": read_json(scratch / "meta_vqa_0" / "meta_vqa.json")["all"]["tasks"],
        **found,
        "prepare_over_fastest_parse": {what: found["prepare"][what] / fastest[what] for what in fastest},
        "repeats": repeats,
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in PARSERS[:2]}},
        "processors": os.cpu_count(),
    }


def main(cfg: Config) -> None:
    if cfg.repeats < 1 or not 0.001 <= cfg.scale <= 1:
        raise InputError("expected repeats of at least 1 and scale from 0.001 to 1")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(cfg.vqa_dir or scratch)
        make_files(folder, cfg.scale)
        report = measure(folder, Path(scratch), cfg.repeats)
    write_json(cfg.output, report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
