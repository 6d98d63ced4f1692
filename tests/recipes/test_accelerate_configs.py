"""The configurations of accelerate: each is read, and those that a CPU can run are run."""

import os
import subprocess
import sys

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from tests.recipes.small import save_data

NUMBERS = {"cpu": 1, "one_gpu": 1, "multi_gpu": 2, "multi_node": 4}


def test_every_file_is_read(root):
    files = {path.stem: path for path in (root / "recipes/accelerate").glob("*.yaml")}
    assert files.keys() == NUMBERS.keys()
    for name, path in files.items():
        config = load_config_from_file(str(path))
        assert config.num_processes == NUMBERS[name] and config.mixed_precision == "no"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu", "one_gpu", "multi_gpu"])
def test_a_recipe_runs_with_it(root, tmp_path, name):
    data = save_data(tmp_path / "data", tasks=5)
    command = ["-m", "accelerate.commands.launch", "--config_file", f"recipes/accelerate/{name}.yaml"]
    words = [
        f"dataset={data}",
        f"output={tmp_path / 'out'}",
        "steps=2",
        "batch_size=4",
        "network.hidden_dim=3",
    ]
    done = subprocess.run(
        [sys.executable, *command, "recipes/train_hypernet.py", *words],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"}, cwd=root, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number = NUMBERS[name]
    assert done.stdout.count(f"{number} process{'es' * (number > 1)} on cpu") == 1
