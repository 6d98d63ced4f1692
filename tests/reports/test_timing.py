"""Two ways side by side: what is reported, and what is refused. Never a time: those belong to a machine."""

import socket
import time

import pytest
import torch

from weightgen.reports.benchmark import benchmark_text, random_tasks
from weightgen.reports.timing import Pair, compare, machine, peak_bytes, time_in_turns, timed

CPU = torch.device("cpu")


def test_ways_run_in_turns():
    called = []
    runs = {name: (lambda name=name: called.append(name)) for name in ("new", "old")}
    took = time_in_turns(runs, repeats=4)
    warm, turns = called[:2], called[2:]
    assert warm == ["new", "old"] and turns == ["new", "old", "old", "new", "new", "old", "old", "new"]
    assert {name: len(found) for name, found in took.items()} == {"new": 4, "old": 4}
    assert all(each.seconds > 0 and each.cpu_seconds >= 0 for found in took.values() for each in found)


def test_what_is_short_runs_several_times():
    called = []
    took = timed(lambda: called.append(time.sleep(0.001)), min_seconds=0.02)
    assert 2 <= len(called) <= 20 and took.seconds >= 0.001
    assert timed(lambda: called.clear()).seconds > 0 and not called


def test_a_row_of_a_report():
    pair = Pair("a thing", "new", "old", lambda: torch.ones(2), lambda: torch.ones(2))
    row = compare(pair, CPU, repeats=4, min_seconds=0.0)
    ratio = row["times_as_fast"]
    assert 0 < ratio["least"] <= ratio["median"] <= ratio["most"]
    ratios = sorted(old / new for new, old in zip(row["seconds"]["new"], row["seconds"]["old"], strict=True))
    assert (ratio["least"], ratio["most"]) == (ratios[0], ratios[-1]) and "peak_bytes" not in row


def test_random_tasks_are_always_the_same():
    one, other = (random_tasks(3, (4, 6), (2, 3), 8, CPU) for _ in range(2))
    assert all(torch.equal(a.query.inputs, b.query.inputs) for a, b in zip(one, other, strict=True))
    for task in one:
        answers = task.context["answers"]
        assert 4 <= len(task.support.labels) <= 6 and 2 <= len(answers) <= 3
        assert answers.shape[1] == 8 and task.support.labels.max() < len(answers)


def test_ways_that_give_other_numbers_are_not_compared():
    pair = Pair("a thing", "new", "old", lambda: torch.ones(2), lambda: torch.tensor([1.0, 1.1]))
    with pytest.raises(AssertionError, match="a thing"):
        compare(pair, CPU, repeats=1, min_seconds=0.0)
    assert not compare(pair._replace(same=False), CPU, repeats=1, min_seconds=0.0)["same_result"]


def test_peak_memory_is_what_is_held_at_a_time():
    def one_after_the_other():
        for _ in range(3):
            torch.ones(1000)

    def together():
        return [torch.ones(1000) for _ in range(3)]

    assert peak_bytes(one_after_the_other, CPU) == 4000
    assert peak_bytes(together, CPU) == 12_000
    pair = Pair("x", "new", "old", lambda: torch.ones(250), lambda: torch.ones(500)[:250], memory=True)
    assert compare(pair, CPU, 1, 0.0)["peak_bytes"] == {"new": 1000, "old": 2000}


def test_a_report_names_the_machine_but_not_by_its_name():
    facts = machine(CPU)
    assert facts["torch"] == torch.__version__ and facts["threads"] == 1 and facts["device"] == "cpu"
    pair = Pair("a thing", "new", "old", lambda: torch.ones(2), lambda: torch.ones(2), memory=True)
    row = {"size": "tiny", **compare(pair, CPU, 1, 0.0)}
    report = {"title": "T", "settings": "c", "machine": facts, "repeats": 1, "seconds": 2.0, "rows": [row]}
    text = benchmark_text(report)
    assert text.startswith("# T\n") and f"torch {torch.__version__} on cpu, 1 thread(s)" in text
    assert text.splitlines()[-1].startswith("| tiny | a thing | new | old | **")
    assert socket.gethostname() not in text + str(facts)
