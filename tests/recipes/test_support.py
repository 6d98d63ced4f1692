"""The recipes on support sets: a stopped run goes on bit for bit, and what it wrote is scored beside gradient steps."""

import dataclasses
import importlib.util
import json

import pytest
import torch

from tests.recipes.test_hyperldm import save_data
from tests.tiny import tiny_clip
from weightgen import InputError
from weightgen.components import load_part
from weightgen.encoders.clip import load_clip
from weightgen.files import read_tensors
from weightgen.hypernets import SharedWeights, SupportHNet
from weightgen.networks import CLIPAdapter
from weightgen.weight_space import WeightSpace

SMALL = {"steps": 4, "validate_every": 2, "batch_size": 3, "shots": [1, 0]}


def load_recipe(root, name):
    spec = importlib.util.spec_from_file_location(name, root / f"recipes/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four tasks of random features, and a starting point."""
    folder = tmp_path_factory.mktemp("support")
    clip = load_clip(str(tiny_clip(folder / "clip")))
    save_data(folder / "data", clip, str(folder / "clip"))
    network = CLIPAdapter(clip.image_dim, 3)
    space = WeightSpace.of(network)
    network.save_pretrained(folder / "start/network")
    SharedWeights(space).start_at(torch.randn(space.size)).save_pretrained(folder / "start/hypernet")
    return folder


@pytest.fixture(scope="module")
def train(root, folder):
    recipe = load_recipe(root, "train_support")

    def run(name, **settings):
        hypernet = {"dim": 8, "rounds": 2, "step": 0.1, "embed_dim": 4}
        recipe.main(
            recipe.Config(
                dataset=str(folder / "data"), start=str(folder / "start"), output=str(folder / name),
                **{**SMALL, "hypernet": hypernet, **settings},
            )
        )  # fmt: skip
        return folder / name

    run.recipe = recipe
    return run


def test_a_stopped_run_goes_on_bit_for_bit(train, folder, monkeypatch):
    whole = train("whole")
    real, calls = train.recipe.check_finite, iter(range(99))

    def stopped(*words):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(*words)

    monkeypatch.setattr(train.recipe, "check_finite", stopped)
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    assert not (folder / "parts").exists() and (folder / "parts.checkpoint.safetensors").is_file()
    monkeypatch.setattr(train.recipe, "check_finite", real)
    with pytest.raises(InputError, match="unfinished run with other settings"):
        train("parts", lr=0.1)
    parts = train("parts")
    assert not (folder / "parts.checkpoint.safetensors").exists()
    one, other = (read_tensors(path / "hypernet/model.safetensors") for path in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    facts = json.loads((whole / "training.json").read_text())
    assert facts == json.loads((parts / "training.json").read_text())
    assert facts["step"] in (2, 4) and set(facts["by_shots"]) == {"1", "0"}


def test_it_begins_at_the_start_and_learns(train, folder):
    hypernet = load_part(SupportHNet, train("trained") / "hypernet")
    start = load_part(SharedWeights, folder / "start/hypernet").weights
    assert 0 < (hypernet.base - start).abs().max() < 0.1
    assert hypernet.components.norm(dim=1).min() > 0.9  # the axes of the support embedding are there


def test_scores_beside_gradient_descent(train, folder, root):
    recipe = load_recipe(root, "score_support")
    runs = [str(train(f"scored{seed}", seed=seed)) for seed in (0, 1)]
    cfg = recipe.Config(
        dataset=str(folder / "data"), runs=runs, starts=[str(folder / "start")] * 2, output=str(folder / "scores"),
        shots=[1, 0], steps=2, lrs=[0.1, 0.0], timed_tasks=1, timed_batch=2,
    )  # fmt: skip
    recipe.main(cfg)
    report = json.loads((folder / "scores.json").read_text())
    rows = report["accuracy"]["test"]
    assert rows["chance"]["1"] == {"mean": 0.5, "std": 0.0, "seeds": [0.5, 0.5]}
    assert list(rows) == ["chance", "CLIP", "2 gradient steps", "SupportHNet, one pass"]
    assert all(0 <= value["mean"] <= 1 for row in rows.values() for value in row.values())
    assert all(ms > 0 for way in report["milliseconds"].values() for ms in way.values())
    text = (folder / "scores.md").read_text()
    assert "| chance | 50.0 ± 0.0 | 50.0 ± 0.0 |" in text and "2 training seeds" in text
    with pytest.raises(InputError, match="one of starts for each of runs, got 1 and 2"):
        recipe.main(dataclasses.replace(cfg, starts=cfg.starts[:1]))
