"""Every training recipe: killed, or stopped by Ctrl-C, in the middle, the same command again gives the same bytes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_clip
from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.data.zoo import writer
from weightgen.storage.files import read_tensors
from weightgen.training import loop
from weightgen.training.interrupts import Stopped

ADAPTER = {"_component_": "weightgen.networks.CLIPAdapter", "hidden_dim": 3}
HNET = {"_component_": "weightgen.hypernets.HNet", "hidden_dims": [4], "latent_dim": 3, "spread": 0.3}
HVAE = {"_component_": "weightgen.hypernets.HVAE", "latent_dim": 2, "hidden_dims": [4]}
DENOISER = {"_component_": "weightgen.priors.MLPDenoiser", "hidden_dims": [8]}
SCHEDULER = {"_component_": "weightgen.priors.paper_schedule", "prediction_type": "sample"}
SMALL = {"batch_size": 3, "steps": 6, "validate_every": 1, "lr": 0.03}
EPISODES = {"ways": 3, "queries": 2, "unlabeled": 1, "hide": 0.5, "hide_steps": 4, "warmup": 1, "decay_steps": 4,
            "validation_episodes": 2, "validation_queries": 2, "min_shots": 1, "shots": 2}  # fmt: skip

# Name of a run: recipe, settings. What begins with "@" is the output of an earlier run.
RUNS = {
    "multitask": ("train_hypernet", {"network": ADAPTER, **SMALL}),
    "hnet_maml": ("train_hypernet", {"start": "@multitask", "hypernet": HNET, "inner_variable": "latents", "max_inner_steps": 2,
                                     "validate_inner_steps": 1, **SMALL}),
    "support": ("train_support", {"start": "@multitask", "hypernet": {"dim": 8, "rounds": 2, "embed_dim": 4}, "shots": [1, None], **SMALL}),
    "adapted": ("adapt_tasks", {"start": "@multitask", "draws": 4, "steps": [2], "lrs": [0.1], "batch_size": 3}),
    "adapted_latents": ("adapt_tasks", {"start": "@hnet_maml", "inner_variable": "latents", "draws": 4, "steps": [2], "lrs": [0.01],
                                        "batch_size": 3}),
    "hvae": ("train_hvae", {"adapted": "@adapted", "hypernet": HVAE, "function_weight": 1.0, **SMALL}),
    "hyperclip": ("train_hyperclip", {"adapted": "@adapted", "hvae": "@hvae", **SMALL}),
    "pipeline": ("train_hyperldm", {"adapted": "@adapted", "hvae": "@hvae", "support": "@support", "denoiser": DENOISER,
                                    "scheduler": SCHEDULER, "function_weight": 1.0, "function_tasks": 2, "support_draws": 2,
                                    "sampling": {"num_inference_steps": 2}, "validate_shots": 1, **SMALL}),
    "hypertransformer": ("train_hypertransformer", {
        "network": {"_component_": "weightgen.networks.ConvNet", "channels": 4, "depth": 2},
        "hypernet": {"_component_": "weightgen.hypernets.HyperTransformer", "layers": 1}, **EPISODES, **SMALL, "validate_every": 3,
    }),
    "clip": ("../data/scenes/train_clip", {
        "images": 20, "held_out": 6, "processes": 1, "warmup": 2, "validate_every": 3,
        "model": {"embed_dim": 16, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
                  "text_cfg": {"width": 16, "heads": 2, "layers": 1}, "init_logit_scale": 2.3, "init_logit_bias": -3.0},
        "batch_size": 4, "steps": 6,
    }),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "SHARD", 1000)  # a few weight vectors, so that there are several shards
        yield made(tmp_path_factory.mktemp("resume"))


def made(folder):
    torch.manual_seed(0)
    save_data(folder / "data", clip=tiny_clip(folder / "clip_model"), tasks=5)
    splits = {"train": range(6), "validation": range(6, 12), "test": range(9, 12)}
    images = np.random.default_rng(0).integers(0, 256, (120, 14, 14), dtype=np.uint8)
    write_few_shot_arrays(
        folder / "few", images, np.repeat(np.arange(12), 10), list("abcdefghijkl"), splits, {}
    )
    return folder


@pytest.fixture(scope="module")
def run(root, folder):
    """Run a recipe; earlier runs that it needs are made first, once."""

    def run(name, output=None):
        recipe, settings = RUNS[name]
        module = loaded(root, recipe)
        given = {}
        for key, value in settings.items():
            if isinstance(value, str) and value.startswith("@"):
                value = str(whole(value[1:]))
            given[key] = value
        if "hypertransformer" in recipe:
            given["data"] = str(folder / "few")
        elif "clip" not in recipe or "hyperclip" in recipe:
            given["dataset"] = str(folder / "data")
        output = folder / (output or name)
        module.main(module.Config(output=str(output), checkpoint_every=2, **given))
        return output

    def whole(name):
        return folder / name if (folder / name).exists() else run(name)

    run.whole = whole
    return run


class Killed(BaseException):
    pass


def kill():
    raise Killed


def at_step(monkeypatch, step, action):
    seed_step = loop.seed_step

    def seeded(seed, number):
        if number == step:
            action()
        seed_step(seed, number)

    monkeypatch.setattr(loop, "seed_step", seeded)


def files(folder):
    """The bytes of all that was written, but for the paths in the facts."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".safetensors", ".jsonl")
    }


@pytest.mark.parametrize("how", ["killed", "interrupted"])
@pytest.mark.parametrize("name", RUNS)
def test_the_same_command_again_gives_the_same_bytes(run, folder, monkeypatch, name, how):
    whole, output = run.whole(name), f"{name}_{how}"
    with monkeypatch.context() as patch:
        if how == "killed":  # after the third step, of which no checkpoint tells
            at_step(patch, 3, kill)
        else:
            at_step(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises((Killed, Stopped)):
            run(name, output)
        assert not (folder / output).exists()
        kept = {path.name for path in (folder / f"{output}.unfinished").glob("checkpoint-*")}
        assert f"checkpoint-0000000{2 if how == 'killed' else 4}.safetensors" in kept
    run(name, output)
    expected, found = files(whole), files(folder / output)
    assert name != "adapted" or len([path for path in expected if path.startswith("weights-")]) > 2
    assert expected.keys() == found.keys() and any(
        name.endswith("model.safetensors") for name in [*found, *RUNS]
    )
    for path, content in expected.items():
        assert content == found[path], path
    assert not (folder / f"{output}.unfinished").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_process_that_is_stopped(run, root, folder, number, status):
    """As it happens: another process sends the signal."""
    output = folder / f"process_{status}"
    command = [
        sys.executable, "recipes/train_hypernet.py", f"dataset={folder / 'data'}", "network.hidden_dim=3", f"output={output}",
        "batch_size=3", "steps=200", "lr=0.01", "checkpoint_every=20", "validate_every=100",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=root, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not [*folder.glob(f"{output.name}.unfinished/checkpoint-*")] and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    assert process.returncode == status
    assert number == signal.SIGKILL or "the same command goes on from there" in error
    subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)
    whole = folder / "process_whole"
    if not whole.exists():
        again = [word.replace(str(output), str(whole)) for word in command]
        subprocess.run(again, cwd=root, env=env, check=True, capture_output=True)
    one, other = (read_tensors(path / "hypernet/model.safetensors") for path in (whole, output))
    assert torch.equal(one["weights"], other["weights"])
