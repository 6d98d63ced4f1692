"""The configurations of accelerate: each is read, and those that a CPU can run are run."""

import os
import subprocess
import sys

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file

from tests.recipes.small import save_data
from weightgen.errors import InputError
from weightgen.storage.files import read_tensors
from weightgen.training.processes import shard_above
from weightgen.training.saved import load_module
from weightgen.training.trials import command, make_trial_data, run_recipe

NUMBERS = {"cpu": 1, "one_gpu": 1, "multi_gpu": 2, "multi_node": 4, "fsdp": 2}


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


def test_fsdp_is_taken_over_by_the_recipe(monkeypatch):
    for settings, found in (({"shard_above": None}, 77), ({"shard_above": 5}, 5)):
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
        monkeypatch.setenv("FSDP_MIN_NUM_PARAMS", "77")
        assert shard_above(settings) == found
        assert "ACCELERATE_USE_FSDP" not in os.environ  # accelerate would shard by rules of its own
    assert shard_above({"shard_above": None}) is None and shard_above({}) is None
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match="cannot shard them: write multi_gpu.yaml"):
        shard_above({})


@pytest.mark.slow
def test_hvae_in_pieces(root, tmp_path):
    """Two CPU processes, each with its rows of every large matrix: saved whole, equal to that of one process, loaded in one."""
    folder = tmp_path / "trial"
    make_trial_data(folder)
    for name in ("multitask", "adapted", "hvae"):
        run_recipe(command(root, folder, name, folder / name))
    config = tmp_path / "fsdp.yaml"
    text = (root / "recipes/accelerate/fsdp.yaml").read_text()
    config.write_text(text.replace("fsdp_min_num_params: 100000", "fsdp_min_num_params: 50"))
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config),
         *command(root, folder, "hvae", folder / "pieces")],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"}, cwd=root, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and "2 processes on cpu" in done.stdout, done.stderr
    one, pieces = (read_tensors(folder / name / "hypernet/model.safetensors") for name in ("hvae", "pieces"))
    for key, value in one.items():
        torch.testing.assert_close(pieces[key], value, rtol=0, atol=2e-5)
    load_module(folder / "pieces", "hypernet")
