"""Evaluating episodes: of a finished run, of one that goes on, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.hypernets import HyperTransformer
from weightgen.networks import ConvNet
from weightgen.storage.files import read_json, write_json
from weightgen.storage.hub import class_path
from weightgen.training.config import parse

SETTINGS = {"batch_size": 2, "shots": 1, "unlabeled": 1, "mean": 128.0, "std": 128.0, "steps": 6}


@pytest.fixture(scope="module")
def recipe(root):
    return loaded(root, "evaluate_episodes")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "arrays"
    splits = {"train": range(6), "validation": range(6, 9), "test": range(9, 12)}
    images = rng.integers(0, 256, (120, 14, 14), dtype=np.uint8)
    write_few_shot_arrays(folder, images, np.repeat(np.arange(12), 10), list("abcdefghijkl"), splits, {})
    return str(folder)


def save_run(folder, step):
    """What train_hypertransformer writes, after `step`; a run that ended before its first validation has no log."""
    hypernet = HyperTransformer(ConvNet(4, 3, 14, depth=2), layers=1)
    hypernet.save_pretrained(folder / "hypernet")
    write_json(
        folder / "training.json", {"hypernet": class_path(hypernet), "settings": SETTINGS, "step": step}
    )
    write_json(folder / "run.json", {"phases": [{"from_step": 0, "lr": 0.1}]})
    return str(folder)


def test_a_finished_run(recipe, data, tmp_path, capsys):
    run = save_run(tmp_path / "run", 6)
    cfg = recipe.Config(run=run, data=data, output=str(tmp_path / "a.json"), episodes=9, queries=3)
    recipe.main(cfg)
    report = read_json(tmp_path / "a.json")
    assert json.loads(capsys.readouterr().out)["results"] == report["results"]
    assert (report["step"], report["episodes_trained"], report["split"]) == (6, 12, "test")
    assert (report["ways"], report["shots"], report["unlabeled"]) == (3, 1, 1)
    assert report["training"] == {"settings": SETTINGS, "phases": [{"from_step": 0, "lr": 0.1}]}
    assert set(report["results"]) == {
        f"{norm}, {sets}"
        for norm in ("transductive", "support statistics")
        for sets in ("disjoint", "overlapping")
    }
    assert all(0 <= r["accuracy"] <= 100 and r["interval"] > 0 for r in report["results"].values())


def test_other_shots_and_other_data_are_said(recipe, data, tmp_path, capsys):
    run = save_run(tmp_path / "run", 6)
    few = {"episodes": 4, "queries": 2, "transductive": [True], "overlap": [False]}
    cfg = recipe.Config(run=run, data=data, output=str(tmp_path / "a.json"), shots=2, unlabeled=0, **few)
    recipe.main(cfg)
    report = read_json(tmp_path / "a.json")
    assert (report["shots"], report["unlabeled"]) == (2, 0) and not capsys.readouterr().err
    write_json(tmp_path / "run/run.json", {"phases": [], "reads": {"data": "another"}})
    recipe.main(cfg)
    assert "was trained on other data than data=" in capsys.readouterr().err


def test_a_run_is_followed_until_it_is_finished(recipe, data, tmp_path, capsys, monkeypatch):
    unfinished = tmp_path / "run.unfinished"
    save_run(unfinished, 4)
    waits = []

    def sleep(_):
        waits.append(1)
        if len(waits) == 2:
            save_run(tmp_path / "run", 6)
            shutil.rmtree(unfinished)

    monkeypatch.setattr(recipe.time, "sleep", sleep)
    few = {"episodes": 4, "queries": 2, "transductive": [True], "overlap": [False]}
    recipe.main(recipe.Config(run=str(tmp_path / "run"), data=data, follow=True, **few))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["step"], line["episodes_trained"]) for line in lines] == [(4, 8), (6, 12)] and len(
        waits
    ) == 2


def test_wrong_use(recipe, data, tmp_path):
    run = save_run(tmp_path / "run", 6)
    for words, reason in (
        ({"episodes": 1}, "two episodes"),
        ({"overlap": []}, "something in transductive and overlap"),
        ({"device": "gpu"}, "cannot compute on 'gpu'"),
        ({"run": str(tmp_path)}, "no checkpoint yet"),
        ({"follow_every": -1.0}, "follow_every must be a number from 0 up"),
        ({"output": str(tmp_path)}, "is a folder: expected the name of a file"),
    ):
        with pytest.raises(InputError, match=reason):
            recipe.main(recipe.Config(**{"run": run, "data": data, **words}))


def test_protocols_by_name(recipe, root, tmp_path, capsys):
    """The paper's: 1024 tasks, 16 query batches each, transductive, with the split named in the report."""
    folder = root / "recipes/configs/evaluate_episodes"
    named = {name: parse(recipe.Config, None, ["--config", str(folder / f"{name}.yaml"), "run=x", "data=y"])
             for name in ("alphabets", "random_characters")}  # fmt: skip
    paper = named["random_characters"]
    assert (paper.episodes, paper.query_batches, paper.queries, paper.transductive) == (1024, 16, 5, [True])
    assert paper.overlap == [True, False] and named["alphabets"].overlap == [False, True]
    images = np.random.default_rng(0).integers(0, 256, (60, 14, 14), dtype=np.uint8)
    write_few_shot_arrays(tmp_path / "data", images, np.repeat(np.arange(6), 10), list("abcdef"),
                          {"test": range(6)}, {"split": "random_characters"})  # fmt: skip
    small = replace(paper, run=save_run(tmp_path / "run", 6), data=str(tmp_path / "data"), episodes=3,
                    output=str(tmp_path / "a.json"), batch_size=2)  # fmt: skip
    recipe.main(small)
    report = read_json(tmp_path / "a.json")
    assert (report["protocol"], report["query_batches"]) == ("random_characters", 16)
    assert list(report["results"]) == ["transductive, overlapping", "transductive, disjoint"]
    with pytest.raises(InputError, match="query_batches"):
        recipe.main(replace(small, query_batches=0))
