"""What the recipes refuse, or warn of, before long runs start."""

import json
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal

from tests.recipes.small import loaded, save_data
from weightgen import InputError

NETWORK = {"_component_": "weightgen.networks.CLIPAdapter", "hidden_dim": 3}
FEW = {"steps": 2, "batch_size": 2, "validate_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return str(save_data(tmp_path_factory.mktemp("data") / "data"))


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    return str(save_data(tmp_path_factory.mktemp("data") / "nameless", question=" "))


@pytest.fixture(scope="module")
def multitask(root, data, tmp_path_factory):
    recipe, folder = loaded(root, "train_hypernet"), tmp_path_factory.mktemp("multitask") / "out"
    recipe.main(recipe.Config(dataset=data, output=str(folder), network=NETWORK, **FEW))
    return str(folder)


@pytest.fixture(scope="module")
def adapted(root, data, multitask, tmp_path_factory):
    recipe, folder = loaded(root, "adapt_tasks"), tmp_path_factory.mktemp("adapted") / "out"
    recipe.main(
        recipe.Config(dataset=data, start=multitask, output=str(folder), draws=3, steps=[2], lrs=[1e-3, 1e38])
    )
    return str(folder)


def test_conditional_methods_need_questions(root, nameless, multitask, adapted, tmp_path):
    output = str(tmp_path / "out")
    hypernet, ldm, clip = (loaded(root, f"train_{name}") for name in ("hypernet", "hyperldm", "hyperclip"))
    conditional = {"_component_": "weightgen.hypernets.HNet", "hidden_dims": [4]}
    for recipe, words in (
        (hypernet, {"hypernet": conditional, "network": NETWORK}),
        (ldm, {"adapted": adapted}),
        (clip, {"adapted": adapted}),
    ):
        with pytest.raises(InputError, match="task 0 has no question"):
            recipe.main(recipe.Config(dataset=nameless, output=output, steps=1, **words))
    hypernet.main(hypernet.Config(dataset=nameless, output=output, network=NETWORK, **FEW))  # needs none


@pytest.mark.parametrize("name", ["train_hypernet", "train_hyperclip"])
def test_an_output_that_exists_is_found_before_anything_is_read(root, tmp_path, name):
    recipe = loaded(root, name)
    words = {"adapted": "nowhere"} if name == "train_hyperclip" else {}
    with pytest.raises(InputError, match="exists already"):
        recipe.main(recipe.Config(dataset="nowhere", output=str(tmp_path), **words))


def test_what_cannot_be_guided_is_not_validated_guided(root, data, adapted, tmp_path):
    recipe = loaded(root, "train_hyperldm")
    words = {"dataset": data, "adapted": adapted, "output": str(tmp_path / "out"), "drop_rate": 0.0}
    with pytest.raises(InputError, match="without conditioning dropout, validate_scales=.1."):
        recipe.main(recipe.Config(**words, validate_scales=[1.0, 1.5]))
    with pytest.raises(
        InputError, match="a condition alone is learned by dropping the other one: write drop_rate=0.2"
    ):
        recipe.main(recipe.Config(**words, support="anywhere", validate_scales=[1.0]))


def test_step_sizes_that_diverge_are_not_chosen(adapted):
    facts = json.loads(Path(adapted, "adapted.json").read_text())
    assert facts["lr"] == 1e-3 and [tried["lr"] for tried in facts["tried"]] == [1e-3]


def test_adaptation_that_diverges(root, data, multitask, tmp_path, capsys):
    recipe, output = loaded(root, "adapt_tasks"), str(tmp_path / "out")
    with pytest.raises(InputError, match="diverged with every step size"):
        recipe.main(recipe.Config(dataset=data, start=multitask, output=output, steps=[5], lrs=[1e38, 2e38]))
    assert "5 steps of 1e+38 diverge" in capsys.readouterr().err
    recipe = loaded(root, "train_hypernet")
    maml = {"max_inner_steps": 2, "inner_lr": 1e38, "validate_inner_steps": 5}
    with pytest.raises(InputError, match=r"5 steps of 1e\+38 diverged"):
        recipe.main(recipe.Config(dataset=data, output=output, network=NETWORK, **maml, **FEW))
    assert not (tmp_path / "out").exists()


def test_latents_far_from_the_prior_are_warned_of(root, data, adapted, tmp_path, capsys, monkeypatch):
    recipe = loaded(root, "train_hvae")
    hvae = {"_component_": "weightgen.hypernets.HVAE", "latent_dim": 2, "hidden_dims": [4]}
    words = {"dataset": data, "adapted": adapted, "hypernet": hvae, **FEW}
    recipe.main(recipe.Config(output=str(tmp_path / "sound"), **words, lr=1e-6))
    least, most = json.loads((tmp_path / "sound/training.json").read_text())["latent_spread"]
    assert "warning" not in capsys.readouterr().err and 1 / 3 < least <= most < 3
    monkeypatch.setattr(recipe, "FAR", 1.01)
    recipe.main(recipe.Config(output=str(tmp_path / "far"), **words, lr=1e-6))
    assert capsys.readouterr().err.count("latent dimensions have a standard deviation far from 1") == 1


def test_spread_of_latents_counts_means_and_noise(root):
    recipe = loaded(root, "train_hvae")
    spread = recipe.latent_spread(Normal(torch.tensor([[0.0, 3.0], [0.0, -3.0]]), torch.tensor([[1.0, 4.0]])))
    torch.testing.assert_close(spread, torch.tensor([1.0, 5.0]))
    assert recipe.warning_of(torch.tensor([1.0, 2.9, 0.4])) is None
    for value in (3.1, 0.3, float("nan")):
        assert recipe.warning_of(torch.tensor([1.0, value])).startswith("warning: 1 of 2 latent dimensions")
