"""Memory that stays with the process."""

import subprocess
import sys

import pytest

from weightgen.training.memory import keep_memory

FAULTS = """
import resource
import torch
from weightgen.training.memory import keep_memory
{call}
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(4_000_000); before = faults()
for _ in range(10): torch.ones(4_000_000)
print(faults() - before)
"""


def faults(call):
    """Fresh pages that ten tensors of 16 MB take, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(call=call)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_large_tensors_take_no_fresh_pages():
    if not keep_memory():
        pytest.skip("only on Linux with glibc")
    assert 4 * faults("keep_memory()") < faults("")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_memory() is False
