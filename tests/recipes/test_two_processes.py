"""Recipes under `accelerate launch` with two processes: both end well, and one of them writes."""

import os
import subprocess
import sys

import pytest

from tests.recipes.small import save_data
from weightgen.storage.files import read_json

pytestmark = pytest.mark.slow


def test_a_hypernetwork_learns_in_two_processes(root, tmp_path):
    """Five tasks in batches of four: of the last batch one process has no task of its own."""
    data = save_data(tmp_path / "data", tasks=5)
    words = [
        f"dataset={data}",
        f"output={tmp_path / 'out'}",
        "steps=3",
        "batch_size=4",
        "network.hidden_dim=4",
    ]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [sys.executable, *launch, str(root / "recipes/train_hypernet.py"), *words],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"}, cwd=root, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished after 3 steps") == 1
    assert read_json(tmp_path / "out/training.json")["steps"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}
