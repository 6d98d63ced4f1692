"""Memory that stays with the process."""

import subprocess
import sys

import pytest

from weightgen.training import memory

FAULTS = """
import resource, runpy, sys
import numpy as np
if sys.argv[2] == "kept":
    runpy.run_path(sys.argv[1])["keep_memory"]()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(6_000_000)
before = faults()
for _ in range(10):
    np.ones(6_000_000)
print(faults() - before)
"""


def faults(how):
    """Fresh pages that ten arrays of 48 MB take, one after the other."""
    words = [sys.executable, "-c", FAULTS, memory.__file__, how]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_large_arrays_take_no_fresh_pages():
    if not memory.keep_memory():
        pytest.skip("only on Linux with glibc")
    assert 4 * faults("kept") < faults("given back")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_memory() is False
