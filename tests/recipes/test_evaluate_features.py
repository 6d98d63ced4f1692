"""Baselines on features: the episodes are those of evaluate_episodes, and what is no fixed feature is refused."""

import numpy as np
import pytest
import torch

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.data.few_shot.arrays import FewShotArrays, write_few_shot_arrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.hypernets import HNet, HyperTransformer, ProtoNet
from weightgen.networks import ConvNet
from weightgen.objectives.episodic import EpisodicLoss, episode_accuracies
from weightgen.storage.files import read_json, write_json
from weightgen.storage.hub import class_path
from weightgen.weights import WeightSpace


@pytest.fixture(scope="module")
def recipe(root):
    return loaded(root, "evaluate_features")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight classes of ten images, each nearly of one colour."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 200, (8, 1, 1, 1, 3))
    images = np.clip(colours + rng.normal(0, 12, (8, 10, 16, 16, 3)), 0, 255).astype(np.uint8)
    folder = tmp_path_factory.mktemp("data") / "arrays"
    write_few_shot_arrays(folder, images.reshape(80, 16, 16, 3), np.repeat(np.arange(8), 10), list("abcdefgh"),
                          {"test": range(8)}, {})  # fmt: skip
    return str(folder)


def save(hypernet, folder):
    hypernet.save_pretrained(folder / "hypernet")
    facts = {"hypernet": class_path(hypernet), "settings": {"mean": 128.0, "std": 64.0}}
    write_json(folder / "training.json", facts)
    return str(folder)


def test_class_means_are_nearly_those_of_a_protonet(recipe, data, tmp_path):
    """Where the batch statistics of an episode are those of all images, the two differ by the length of the features alone."""
    torch.manual_seed(0)
    network = ConvNet(8, 5, 16, 3, depth=2)
    run = save(ProtoNet(network), tmp_path / "run")
    cfg = recipe.Config(run=run, data=data, output=str(tmp_path / "a.json"), shots=2, episodes=24)
    recipe.main(cfg)
    report = read_json(tmp_path / "a.json")
    assert set(report["results"]) == {"logistic regression", "class means"} and report["features"] == run
    arrays = FewShotArrays(data)
    episodes = Episodes(
        arrays, arrays.classes("test"), ways=5, shots=2, queries=5, batch_size=8, std=64.0, seed=1
    )
    protonet = 100 * episode_accuracies(EpisodicLoss(ProtoNet(network)), episodes, 24).mean().item()
    assert report["results"]["class means"]["accuracy"] == pytest.approx(protonet, abs=8)
    assert report["results"]["logistic regression"]["accuracy"] > 50


def test_pixels(recipe, data, tmp_path):
    recipe.main(recipe.Config(data=data, output=str(tmp_path / "a.json"), pixels=True, episodes=8))
    report = read_json(tmp_path / "a.json")
    assert report["features"] == "pixels" and report["results"]["class means"]["accuracy"] > 60
    values = recipe.pixel_features(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3))
    assert values.tolist() == [[-6.0] * 12, [6.0] * 12]


def test_wrong_use(recipe, data, tmp_path):
    run = save(HyperTransformer(ConvNet(4, 5, 16, 3, depth=2), layers=1), tmp_path / "run")
    with pytest.raises(InputError, match="generates convolution 0"):
        recipe.main(recipe.Config(run=run, data=data, output=str(tmp_path / "a.json")))
    other = save(HNet(WeightSpace.of(ConvNet(4, 5, 16, 3, depth=2)), 4), tmp_path / "other")
    with pytest.raises(InputError, match="holds a HNet, which is no SupportWriter"):
        recipe.main(recipe.Config(run=other, data=data, output=str(tmp_path / "a.json")))
    with pytest.raises(InputError, match="run or pixels"):
        recipe.main(recipe.Config(run=run, pixels=True, data=data, output=str(tmp_path / "a.json")))
    with pytest.raises(InputError, match="episodes must be a whole number from 2"):
        recipe.main(recipe.Config(data=data, output=str(tmp_path / "a.json"), episodes=1))
