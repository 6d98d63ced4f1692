"""Meta-VQA from files of the official size (658,111 questions, ten answers each, 0.6 GB; made up), against parsing them alone."""

import itertools
import os
import subprocess
import sys

from tests.benchmarks.made_up_vqa import make_files

SCALE = float(os.environ.get("SCALE", 1))
# One file is let go before the next is parsed.
PARSE = "import orjson, sys\nfor path in sys.argv[1:]: orjson.loads(open(path, 'rb').read())"


def test_preparing(row, root, tmp_path):
    make_files(tmp_path / "vqa", SCALE)
    files, fresh, peaks = sorted(map(str, (tmp_path / "vqa").glob("v2_*.json"))), itertools.count(), []
    # What the system tells of a child's largest memory, ru_maxrss, counts that of the process that started it: here, of the benchmarks.
    watched = (
        "import runpy, sys\nsys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )

    def prepare():
        words = [
            root / "data/meta_vqa/prepare.py",
            "--vqa-dir",
            tmp_path / "vqa",
            "--output-dir",
            tmp_path / f"out {next(fresh)}",
        ]
        command = [sys.executable, "-c", watched, *map(str, words)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.splitlines()[-1]) / 2**20)

    found = row(
        f"Meta-VQA from files of {SCALE:g} times the official size",
        prepare,
        limit=lambda: subprocess.run([sys.executable, "-c", PARSE, *files], check=True),
        aims=(None, 1 / 1.5),
        rounds=2,
        note="limit: parsing the same files with orjson, the fastest parser",
    )
    found["note"] += f"; peak memory {max(peaks):.2f} GB, aim ≤ 1.2"
    row.benchmark.extra_info["note"] = found["note"]
