"""Recipes in two processes: they learn what one learns, one of them writes, and errors are told once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.recipes.small import save_data
from weightgen.storage.files import read_json

LAUNCH = [sys.executable, "recipes/launch.py", "2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def start(command, root, **more):
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **more}
    return subprocess.Popen(
        command, env=env, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def words(data, output, **more):
    given = {"dataset": data, "output": output, "steps": 3, "batch_size": 4, "network.hidden_dim": 4, **more}
    return ["recipes/train_hypernet.py", *(f"{key}={value}" for key, value in given.items())]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [LAUNCH, TORCHRUN], ids=["launch", "torchrun"])
def test_a_batch_smaller_than_the_processes(root, tmp_path, launcher):
    """Five tasks in batches of four: of the last batch one process has no task of its own."""
    data = save_data(tmp_path / "data", tasks=5)
    process = start([*launcher, *words(data, tmp_path / "out")], root)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("finished after 3 steps") == 1 and out.count("2 processes on cpu") == 1
    assert read_json(tmp_path / "out/training.json")["steps"] == 3
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}
    again = start([*LAUNCH, *words(data, tmp_path / "out")], root)
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0 and out.count("finished already") == 1, err


@pytest.mark.slow
def test_an_error_is_told_once(root, tmp_path):
    for more in ({}, {"ACCELERATE_MIXED_PRECISION": "bf16"}):
        process = start([*LAUNCH, *words("nowhere", tmp_path / "out")], root, **more)
        _, err = process.communicate(timeout=240)
        assert process.returncode == 2 and err.count("error:") == 1 and len(err.splitlines()) == 1, err


@pytest.mark.slow
def test_ctrl_c_reaches_all_processes(root, tmp_path):
    data = save_data(tmp_path / "data", tasks=5)
    process = start([*LAUNCH, *words(data, tmp_path / "out", steps=100_000, checkpoint_every=5)], root)
    deadline = time.monotonic() + 120
    while not [*tmp_path.glob("out.unfinished/checkpoint-*")] and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and err.count("the same command goes on from there") == 1, err


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(root, tmp_path):
    trials = "[multitask,maml,support,adapted,hvae,hyperclip,hyperldm,hypertransformer]"
    command = [
        "recipes/studies/compare_processes.py",
        f"output={tmp_path / 'found.json'}",
        f"trials={trials}",
    ]
    process = start([sys.executable, *command], root)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    for name, run in read_json(tmp_path / "found.json")["runs"].items():
        # A dozen roundings of single precision; logits of HyperCLIP are on a scale of 100, and so is the rounding of its loss.
        for key, value in run.items():
            if key.startswith("loss"):
                assert value < (2e-5 if name == "hyperclip" else 2e-6), (name, key)
            if key.startswith("weights") and name != "hypertransformer":  # see the docstring of the study
                assert value < 1e-5, (name, key)


@pytest.mark.parametrize(
    "given", [[], ["two", "recipes/embed.py"], ["0", "recipes/embed.py"], ["2", "nothing.py"]]
)
def test_wrong_words_for_the_launcher(root, given, monkeypatch):
    from tests.recipes.small import loaded
    from weightgen import InputError

    with pytest.raises(InputError):
        loaded(root, "launch").main(given)
