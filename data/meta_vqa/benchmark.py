"""How fast `prepare.py` is at full size, against the fastest JSON parsers that are well kept.

    python data/meta_vqa/benchmark.py --output report.json

Writes files of the official VQA v2 format and size (658,111 questions, as many annotations with ten human
answers each, 0.6 GB; made up, from a seed), then measures, each in a process of its own and one after
the other: the whole `prepare.py`, from start to exit, and only the parsing of the same four files by each
parser, file by file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

from made_up_vqa import make_files
from tqdm import tqdm

from weightgen.errors import InputError, one_line_errors
from weightgen.storage.files import read_json, write_json

HERE = Path(__file__).resolve().parent
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
MEASURES = ("seconds", "cpu_seconds", "peak_gb")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, help="JSON file for the figures")
    parser.add_argument(
        "--vqa-dir", help="keep the files here and use them again (default: a temporary folder)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the least counts (default 3)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the full size, for a trial (default 1)"
    )
    arguments = parser.parse_args()
    with one_line_errors(), tempfile.TemporaryDirectory() as scratch:
        if arguments.repeats < 1 or not 0.001 <= arguments.scale <= 1:
            raise InputError("expected --repeats of at least 1 and --scale from 0.001 to 1")
        folder = Path(arguments.vqa_dir or scratch)
        make_files(folder, arguments.scale)
        report = measure(folder, Path(scratch), arguments.repeats)
        write_json(arguments.output, report)
        print(json.dumps(report, indent=2))


def measure(folder: Path, scratch: Path, repeats: int) -> dict[str, Any]:
    """Run everything `repeats` times in turn and keep the least time and the highest peak of each."""
    files = sorted(map(str, folder.glob("v2_*.json")))
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ("prepare", *PARSERS)}
    for i in tqdm(range(repeats), desc="measuring", unit="round"):
        runs["prepare"].append(_prepare(folder, scratch / f"meta_vqa_{i}"))
        for name in PARSERS:
            command = [sys.executable, "-c", PARSE, name, *files]
            runs[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    figures = {
        name: {
            measure: (max if measure == "peak_gb" else min)(run[measure] for run in measured)
            for measure in MEASURES
        }
        for name, measured in runs.items()
    }
    fastest = {measure: min(figures[name][measure] for name in PARSERS) for measure in MEASURES[:2]}
    return {
        "files_gb": sum(os.path.getsize(path) for path in files) / 1e9,
        "tasks": read_json(scratch / "meta_vqa_0" / "meta_vqa.json")["all"]["tasks"],
        **figures,
        "prepare_over_fastest_parse": {
            measure: figures["prepare"][measure] / fastest[measure] for measure in fastest
        },
        "repeats": repeats,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PARSERS[:2]}},
        "processors": os.cpu_count(),
    }


def _prepare(folder: Path, output: Path) -> dict[str, float]:
    """Time the command as a user runs it: interpreter start, imports, reading, tasks, card and picture."""
    command = [
        sys.executable,
        str(HERE / "prepare.py"),
        "--vqa-dir",
        str(folder),
        "--output-dir",
        str(output),
    ]
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise InputError(f"prepare.py failed with wait status {status}; run it by hand: {' '.join(command)}")
    seconds, cpu = perf_counter() - start, usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_gb": usage.ru_maxrss / 2**20}


if __name__ == "__main__":
    main()
