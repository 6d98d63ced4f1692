"""The benchmark as it is run, at tiny size: what the report holds, never a time."""

import math
import runpy
import sys

import pytest
import torch

from weightgen.storage.files import read_json


def bench(root, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["bench.py", *map(str, words)])
    runpy.run_path(str(root / "recipes" / "bench.py"), run_name="__main__")


def test_a_report(root, monkeypatch, tmp_path, capsys):
    words = [
        "sizes=[tiny]",
        "repeats=1",
        "min_seconds=0",
        "device=cpu",
        f"output={tmp_path / 'made/bench'}",
    ]
    (tmp_path / "made").mkdir()
    (tmp_path / "made/bench.md").write_text("of an earlier run")
    bench(root, monkeypatch, *words)
    report = read_json(tmp_path / "made/bench.json")
    text = (tmp_path / "made/bench.md").read_text()
    assert capsys.readouterr().out == text
    assert report["machine"]["torch"] == torch.__version__ and report["machine"]["device"] == "cpu"
    assert report["command"] == "python recipes/bench.py sizes=[tiny] repeats=1 threads=1"
    ways = [(row["one"], row["other"]) for row in report["rows"]]
    assert ways == [
        ("one batch", "a loop over tasks"),
        ("one batch", "a loop over tasks"),
        ("checkpointed steps", "all kept"),
        ("one pass of a SupportHNet", "50 gradient steps"),
        ("one batch", "one at a time"),
        ("one batch", "one at a time"),
        ("one pass of 2 B", "two passes of B"),
        ("DDIM, 20 steps (the default)", "DDPM, 30 steps"),
    ]
    assert [row["same_result"] for row in report["rows"]] == [True] * 3 + [False] + [True] * 3 + [False]
    for row, line in zip(report["rows"], text.splitlines()[-len(ways) :], strict=True):
        assert row["size"] == "tiny" and line.startswith(
            f"| tiny | {row['what']} | {row['one']} | {row['other']} |"
        )
        assert list(row["seconds"]) == [row["one"], row["other"]] == list(row["milliseconds"])
        times = [second for found in row["seconds"].values() for second in found]
        assert len(times) == 2 and all(0 < second < math.inf for second in times)
        ratio = row["times_as_fast"]
        assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
    (peak,) = (row["peak_bytes"] for row in report["rows"] if "peak_bytes" in row)
    assert all(isinstance(count, int) and count > 0 for count in peak.values())


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
        bench(root, monkeypatch, "sizes=[tiny]", f"output={tmp_path / 'bench'}", word)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.startswith("error: ") and reason in error
    assert not list(tmp_path.iterdir())
