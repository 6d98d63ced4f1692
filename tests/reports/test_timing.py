"""Two ways side by side: what is reported, and what is refused. Never a time: those belong to a machine."""

import socket

import pytest
import torch

from weightgen.reports.timing import Pair, machine, markdown, measured, peak_bytes

CPU = torch.device("cpu")


def test_both_ways_run_in_turns():
    called = []

    def run(name):
        called.append(name)
        return torch.ones(2)

    pair = Pair("a thing", "new", "old", lambda: run("new"), lambda: run("old"))
    row = measured(pair, CPU, repeats=4, min_seconds=0.0)
    blocks = [name for name, before in zip(called[2:], ["", *called[2:]], strict=False) if name != before]
    assert called[:2] == ["new", "old"] and blocks == [
        "new",
        "old",
        "new",
        "old",
        "new",
    ]  # old, old and new, new join
    assert {name: len(found) for name, found in row["seconds"].items()} == {"new": 4, "old": 4}
    ratio = row["times_as_fast"]
    assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
    ratios = sorted(old / new for new, old in zip(row["seconds"]["new"], row["seconds"]["old"], strict=True))
    assert (ratio["least"], ratio["most"]) == (ratios[0], ratios[-1]) and "peak_bytes" not in row


def test_ways_that_give_other_numbers_are_not_compared():
    pair = Pair("a thing", "new", "old", lambda: torch.ones(2), lambda: torch.tensor([1.0, 1.1]))
    with pytest.raises(AssertionError, match="a thing"):
        measured(pair, CPU, repeats=1, min_seconds=0.0)
    assert not measured(pair._replace(same=False), CPU, repeats=1, min_seconds=0.0)["same_result"]


def test_peak_memory_is_what_is_held_at_a_time():
    def one_after_the_other():
        for _ in range(3):
            torch.ones(1000)

    def together():
        return [torch.ones(1000) for _ in range(3)]

    assert peak_bytes(one_after_the_other, CPU) == 4000
    assert peak_bytes(together, CPU) == 12_000
    pair = Pair("x", "new", "old", lambda: torch.ones(250), lambda: torch.ones(500)[:250], memory=True)
    assert measured(pair, CPU, 1, 0.0)["peak_bytes"] == {"new": 1000, "old": 2000}


def test_a_report_names_the_machine_but_not_by_its_name():
    facts = machine(CPU, 1)
    assert facts["torch"] == torch.__version__ and facts["threads"] == 1 and facts["device"] == "cpu"
    pair = Pair("a thing", "new", "old", lambda: torch.ones(2), lambda: torch.ones(2), memory=True)
    row = {"size": "tiny", **measured(pair, CPU, 1, 0.0)}
    report = {"title": "T", "command": "c", "machine": facts, "repeats": 1, "seconds": 2.0, "rows": [row]}
    text = markdown(report)
    assert text.startswith("# T\n") and f"torch {torch.__version__} on cpu, 1 thread(s)" in text
    assert text.splitlines()[-1].startswith("| tiny | a thing | new | old | **")
    assert socket.gethostname() not in text + str(facts)
