"""A grid of trainings: all are evaluated, the tables say so, and a second start trains nothing again."""

from dataclasses import replace

import numpy as np
import pytest

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.reports import stages
from weightgen.storage.files import read_json
from weightgen.training.config import parse
from weightgen.training.trials import run_recipe

SETTINGS = {
    "ways": 3,
    "queries": 2,
    "network.depth": 2,
    "steps": 2,
    "batch_size": 2,
    "decay_steps": 1,
    "validation_episodes": 2,
}


@pytest.fixture(scope="module")
def study(root):
    return loaded(root, "studies/compare_hypertransformers")


@pytest.fixture
def cfg(study, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (120, 14, 14), dtype=np.uint8)
    splits = {"train": range(6), "validation": range(6, 9), "test": range(9, 12)}
    write_few_shot_arrays(tmp_path / "data", images, np.repeat(np.arange(12), 10), list("abcdefghijkl"), splits,
                          {"split": "made_up"})  # fmt: skip
    return study.Config(
        data=str(tmp_path / "data"), output=str(tmp_path / "out/table"), runs=str(tmp_path / "runs"), episodes=3,
        base="omniglot_1shot_8ch_random_characters", settings=SETTINGS, title="A title", xlabel="samples",
        curves={"one layer": {"hypernet.layers": 1, "hypernet.placeholder_dim": None}},
        places={"0": {}, "1": {"unlabeled": 1, "hide": 0.5, "hide_steps": 1}},
    )  # fmt: skip


@pytest.fixture
def commands(monkeypatch):
    """Stages run in this process; what they were."""
    seen = []

    def run(command, root):
        seen.append(command)
        monkeypatch.chdir(root)
        run_recipe(command)
        return 0

    monkeypatch.setattr(stages, "run", run)
    return seen


def test_a_grid(study, cfg, tmp_path, commands):
    study.main(cfg)
    assert [command[0] for command in commands] == [
        "recipes/train_hypertransformer.py",
        "recipes/evaluate_episodes.py",
    ] * 2
    report = read_json(tmp_path / "out/table.json")
    assert (report["protocol"], report["ways"], report["shots"]) == ("made_up", 3, 1)
    row = report["accuracy"]["one layer"]
    found = read_json(tmp_path / "runs/seed0/one_layer_1.json")
    assert row["1"]["mean"] == found["results"]["transductive, disjoint"]["accuracy"] / 100
    assert found["training"]["settings"]["unlabeled"] == 1 and row["0"]["episodes_trained"] == 4
    text = (tmp_path / "out/table.md").read_text()
    assert "3-way 1-shot" in text and "| one layer |" in text and "seeds)" not in text
    assert (tmp_path / "out/table.png").read_bytes().startswith(b"\x89PNG")

    commands.clear()
    study.main(replace(cfg, more_seeds={"one layer, 1": 2}))
    assert len(commands) == 2 and all("seed1/one_layer_1" in " ".join(command) for command in commands)
    cells = read_json(tmp_path / "out/table.json")["accuracy"]["one layer"]
    assert (len(cells["0"]["intervals"]), len(cells["1"]["intervals"])) == (1, 2)
    assert (tmp_path / "out/table.md").read_text().count("(2 seeds)") == 1
    with pytest.raises(InputError, match="holds results of"):
        study.main(replace(cfg, settings=SETTINGS | {"steps": 3}))


def test_a_comparison_begins_where_another_ended(study, cfg, tmp_path, commands):
    later = replace(cfg, start=cfg.runs, runs=str(tmp_path / "later"), output=str(tmp_path / "out/later"))
    with pytest.raises(InputError, match="one_layer_0"):
        study.main(later)
    assert not commands
    study.main(cfg)
    study.main(later)
    for name in ("one_layer_0", "one_layer_1"):
        begun = read_json(tmp_path / f"later/seed0/{name}/training.json")["settings"]["start"]
        assert begun == str(tmp_path / f"runs/seed0/{name}")


def test_wrong_use(study, cfg):
    for change, reason in (
        ({"seeds": 0}, "seeds"),
        ({"more_seeds": {"one layer, 0": 0}}, "seeds"),
        ({"places": {}}, "expected curves, places"),
        ({"curves": {"one layer": None}}, "settings .or {}. of each"),
        ({"more_seeds": {"one layer": 2}}, "a curve, a comma and a place"),
        ({"episodes": 1}, "two episodes"),
        ({"curves": {"a b": {}, "a-b": {}}}, "would be called seed0/a_b_0"),
    ):
        with pytest.raises(InputError, match=reason):
            study.main(replace(cfg, **change))


@pytest.mark.parametrize(
    "name", ["beginnings", "layers", "unlabeled_layers", "cifar_fs_1shot", "cifar_fs_5shot"]
)
def test_the_settings_are_those_of_the_training_recipe(study, root, name):
    cfg = parse(
        study.Config,
        None,
        [
            "--config",
            str(root / f"recipes/configs/compare_hypertransformers/{name}.yaml"),
            "data=x",
            "output=y",
        ],
    )
    stages, grid = study.stages_of(cfg, root / "runs")
    assert len(grid) == len(cfg.curves) * len(cfg.places)
    recipe = loaded(root, "train_hypertransformer")
    trained = [parse(recipe.Config, None, ["--config", str(root / one.command[2]), *one.command[3:]])
               for one in stages.values() if one.command[0].endswith("train_hypertransformer.py")]  # fmt: skip
    assert len({str((one.network, one.hypernet, one.unlabeled)) for one in trained}) == len(grid)
    assert all(one.ways == 5 and not one.overlap and one.steps >= one.decay_steps for one in trained)
