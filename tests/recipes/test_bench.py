"""The benchmarks as they are run, at tiny size: what the reports hold, never a time."""

import math
import os
import runpy
import subprocess
import sys

import pytest
import torch

from weightgen.storage.files import read_json

ADAPTATION = [
    ("one batch", "a loop over tasks", True),
    ("one batch", "a loop over tasks", True),
    ("checkpointed steps", "all kept", True),
    ("one pass of a SupportHNet", "50 gradient steps", False),
]
EPISODES = [("one batch", "one at a time", True)] * 2
SAMPLING = [
    ("one pass of 2 B", "two passes of B", True),
    ("DDIM, 20 steps (the default)", "DDPM, 30 steps", False),
]


def bench(root, monkeypatch, name, *words):
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    runpy.run_path(str(root / f"recipes/benchmarks/{name}.py"), run_name="__main__")


@pytest.mark.parametrize(
    ("name", "ways"), [("adaptation", ADAPTATION), ("episodes", EPISODES), ("sampling", SAMPLING)]
)
def test_a_report(root, monkeypatch, tmp_path, capsys, name, ways):
    words = ["sizes=[tiny]", "repeats=1", "min_seconds=0", "device=cpu", f"output={tmp_path / 'made/bench'}"]
    (tmp_path / "made").mkdir()
    (tmp_path / "made/bench.md").write_text("of an earlier run")
    bench(root, monkeypatch, name, *words)
    report = read_json(tmp_path / "made/bench.json")
    text = (tmp_path / "made/bench.md").read_text()
    assert capsys.readouterr().out == text
    assert report["machine"]["torch"] == torch.__version__ and report["machine"]["device"] == "cpu"
    assert report["settings"] == "sizes=[tiny] repeats=1 threads=1"
    assert [(row["one"], row["other"], row["same_result"]) for row in report["rows"]] == ways
    for row, line in zip(report["rows"], text.splitlines()[-len(ways) :], strict=True):
        assert line.startswith(f"| tiny | {row['what']} | {row['one']} | {row['other']} |")
        assert list(row["seconds"]) == [row["one"], row["other"]] == list(row["milliseconds"])
        times = [second for found in row["seconds"].values() for second in found]
        assert len(times) == 2 and all(0 < second < math.inf for second in times)
        ratio = row["times_as_fast"]
        assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
    peaks = [row["peak_bytes"] for row in report["rows"] if "peak_bytes" in row]
    assert len(peaks) == (name == "adaptation")
    assert all(isinstance(count, int) and count > 0 for peak in peaks for count in peak.values())


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("sizes=[huge]", "no size 'huge', only"),
        ("repeats=0", "from 1 up"),
        ("device=tpu", "device"),
        ("repeat=1", "Did you mean"),
    ],
)
def test_wrong_use(root, monkeypatch, tmp_path, capsys, word, reason):
    with pytest.raises(SystemExit) as exit:
        bench(root, monkeypatch, "episodes", "sizes=[tiny]", f"output={tmp_path / 'bench'}", word)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.startswith("error: ") and reason in error
    assert not list(tmp_path.iterdir())


def run(root, name, *words):
    command = [sys.executable, str(root / f"recipes/benchmarks/{name}.py"), *map(str, words)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, check=True, capture_output=True)


@pytest.mark.slow
def test_preparing_meta_vqa_at_a_fiftieth_of_full_size(root, tmp_path):
    run(root, "meta_vqa", "scale=0.02", "repeats=1", f"output={tmp_path / 'report.json'}")
    found = read_json(tmp_path / "report.json")
    assert found["tasks"] > 0 and 0.1 < found["prepare"]["peak_gb"] < 1.5
    assert found["prepare_over_fastest_parse"]["seconds"] > 0


@pytest.mark.slow
def test_embedding(root, tmp_path):
    few = ["model=RN50", "images=4", "batch_size=2", "rounds=1"]
    run(root, "embed_throughput", *few, f"output={tmp_path / 'report.json'}")
    found = read_json(tmp_path / "report.json")
    assert set(found["images_per_second"]) == {"bare, inside", "recipe", "bare, beside"}
    assert found["ratio"] > 0 and found["cpu_ratio"] > 0 and found["jpeg_kilobytes"] > 20
