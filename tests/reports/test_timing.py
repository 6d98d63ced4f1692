"""Two ways side by side: what is reported, and what is refused. Never a time: those belong to a machine."""

import socket
import subprocess
import sys

import pytest
import torch

from weightgen.reports.timing import largest_memory, machine, peak_bytes, time_in_turns, timed

CPU = torch.device("cpu")


def test_ways_run_in_turns():
    called = []
    runs = {name: (lambda name=name: called.append(name)) for name in ("new", "old")}
    took = time_in_turns(runs, repeats=4)
    warm, turns = called[:2], called[2:]
    assert warm == ["new", "old"] and turns == ["new", "old", "old", "new", "new", "old", "old", "new"]
    assert {name: len(found) for name, found in took.items()} == {"new": 4, "old": 4}
    assert all(each.seconds > 0 and each.cpu_seconds >= 0 for found in took.values() for each in found)


def test_what_is_short_runs_several_times(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def run():
        clock[0] += 0.003

    took = timed(run, min_seconds=0.02)
    assert clock[0] == pytest.approx(7 * 0.003) and took.seconds == pytest.approx(0.003)
    assert timed(run).seconds == pytest.approx(0.003) and clock[0] == pytest.approx(8 * 0.003)


def test_the_largest_memory_is_that_of_this_process():
    held = torch.ones(100_000_000)  # 400 MB, which a process that is started now does not have
    code = (
        "from weightgen.reports.timing import largest_memory as f; a = f(); x = b'1' * 10**8; print(a, f())"
    )
    before, after = map(int, subprocess.check_output([sys.executable, "-c", code]).split())
    assert 0.9e8 < after - before < 1.5e8
    assert before < largest_memory() - 0.5 * held.nbytes


def test_peak_memory_is_what_is_held_at_a_time():
    def one_after_the_other():
        for _ in range(3):
            torch.ones(1000)

    def together():
        return [torch.ones(1000) for _ in range(3)]

    assert peak_bytes(one_after_the_other, CPU) == 4000
    assert peak_bytes(together, CPU) == 12_000


def test_the_machine_is_described_but_not_named():
    facts = machine(CPU)
    assert facts["torch"] == torch.__version__ and facts["threads"] == 1 and facts["device"] == "cpu"
    assert socket.gethostname() not in str(facts)
