"""The one command: what it would run, when it refuses, and the tables and figures that it makes of scores."""

import json
import shutil

import pytest
from PIL import Image

from tests.recipes.small import loaded, save_data
from weightgen import InputError
from weightgen.reports import methods
from weightgen.reports.stages import missing_stages
from weightgen.training.config import parse


@pytest.fixture(scope="module")
def reproduce(root):
    return loaded(root, "reproduce")


@pytest.fixture(scope="module")
def report_methods(root):
    return loaded(root, "studies/report_methods")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Data sets by what is special about them; the one that was copied is the plain one elsewhere."""
    folder = tmp_path_factory.mktemp("data")
    kinds = {
        "plain": {},
        "scenes": {"splits": ("train", "validation", "held_out_meanings", "new_wordings")},
        "photos": {"splits": ("train", "validation", "random_questions", "unseen_classes")},
        "without validation": {"splits": ("train", "test")},
        "without questions": {"question": " "},
        "seen by another encoder": {"encoder": "b"},
    }
    made = {name: str(save_data(folder / name, **words)) for name, words in kinds.items()}
    return made | {"copied": shutil.copytree(made["plain"], str(folder / "copied"))}


def config(reproduce, tmp_path, **words):
    paths = {name: str(tmp_path / name) for name in ("dataset", "output", "runs")}
    return reproduce.Config(**{**paths, **words})


@pytest.mark.parametrize("setting", ["scenes", "scenes_tokens", "photos", "paper"])
def test_every_command_is_one_that_its_recipe_understands(reproduce, root, tmp_path, setting):
    chain = reproduce.stages(config(reproduce, tmp_path), setting, 1)
    for stage in chain.values():
        script, *words = stage.command
        recipe = loaded(root, script.removeprefix("recipes/").removesuffix(".py"))
        assert words[0] == "--config" and (root / words[1]).is_file()
        settings = parse(recipe.Config, None, ["--config", str(root / words[1]), *words[2:]])
        assert settings.seed == 1 and settings.output == str(stage.makes)
        needs = {str(chain[name].makes) for name in stage.needs}
        for name in ("start", "adapted", "hvae"):  # what a stage is made of is among what it needs
            assert getattr(settings, name, None) in {None, *needs}
    assert missing_stages(chain) == list(chain)
    assert set(chain["scores"].needs) == chain.keys() - {"scores"}


def test_runs_lie_in_a_folder_named_as_the_results(reproduce, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = reproduce.stages(reproduce.Config(dataset="data", output="results/mine"), "scenes", 0)
    assert found["maml"].makes == tmp_path / "runs/mine/seed0/maml"
    assert f"dataset={tmp_path / 'data'}" in found["maml"].command  # the recipes run in another folder


@pytest.mark.parametrize(
    ("kind", "setting"), [("scenes", "scenes"), ("photos", "photos"), ("plain", "paper")]
)
def test_scenes_and_photos_are_told_from_other_data(reproduce, data, tmp_path, capsys, kind, setting):
    """The same command on other data trains the paper's sizes."""
    reproduce.main(config(reproduce, tmp_path, dataset=data[kind], dry=True, seeds=2))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 32 and f"configs/train_hvae/{setting}.yaml" in "".join(lines)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("kind", "words", "reason"),
    [
        ("without validation", {}, "no split 'validation', but train, test"),
        ("without questions", {}, "task 0 .*has no question"),
        ("plain", {"setting": "papper"}, "expected setting .* got 'papper'"),
        ("plain", {"seeds": 0}, "expected seeds from 1 up"),
        ("plain", {"shares": [0]}, r"shares in \(0, 100\]"),
        ("plain", {"shares": []}, r"shares in \(0, 100\]"),
    ],
)
def test_mistakes_are_found_before_anything_runs(reproduce, data, tmp_path, monkeypatch, kind, words, reason):
    monkeypatch.setattr(reproduce, "run_stages", lambda *_: pytest.fail("a stage was started"))
    with pytest.raises(InputError, match=reason):
        reproduce.main(config(reproduce, tmp_path, dataset=data[kind], **words))


def test_results_of_other_data_are_not_mixed_in(reproduce, data, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(reproduce, "run_stages", lambda *_: started.append("stages"))
    monkeypatch.setattr(reproduce, "run", lambda *_: 0)
    for kind in ("plain", "copied"):
        reproduce.main(config(reproduce, tmp_path, dataset=data[kind], seeds=1))
    for kept, elsewhere in (("runs", "output"), ("output", "runs")):
        new = {elsewhere: str(tmp_path / "new")}
        for words in (
            {"dataset": data["seen by another encoder"]},
            {"dataset": data["plain"], "setting": "scenes"},
        ):
            with pytest.raises(InputError, match=f"{kept} holds results of .*give another folder"):
                reproduce.main(config(reproduce, tmp_path, **words, **new))
    assert len(started) == 2 and not (tmp_path / "new").exists()


def test_scores_that_lack_a_model_are_made_anew(reproduce, tmp_path):
    found = reproduce.stages(config(reproduce, tmp_path, shares=[100]), "scenes", 0)
    for stage in found.values():
        stage.makes.mkdir(parents=True) if not stage.makes.suffix else stage.makes.touch()
    assert missing_stages(found) == []
    (tmp_path / "runs/seed0/film_100").rmdir()
    assert missing_stages(found) == ["film_100", "scores"]


def save_scores(runs, seeds, shares=(10, 100)):
    """Scores that differ by one hundredth from seed to seed."""
    for seed in range(seeds):
        value = {"test": 0.5 + seed / 100, "novel_composition": 0.25}
        curve = {
            "scale 0.0, temperature 1.0": 0.25,
            "scale 1.5, temperature 1.0": 0.5 + seed / 100,
            "scale 0.0, temperature 0.5": 0.9,
        }
        rows = {name: value for name in (*methods.FLOORS, *methods.FEW_SHOT)}
        rows["few_shot_maml"] = {**value, "chosen": "20 steps of 0.3", "tried": {"20 steps of 0.3": 0.4}}
        rows |= {
            f"{name}_{share}": {**value, "curve": curve}
            for name in methods.ZERO_SHOT | methods.RETRIEVED
            for share in shares
        }
        ranks = {"candidates": 20, "top_1": 0.1, "top_10": 0.75, "chance_top_1": 0.05, "chance_top_10": 0.5}
        inference = {f"{name}_{share}": ranks for name in methods.INFERENCE for share in shares}
        (runs / f"seed{seed}").mkdir(parents=True)
        (runs / f"seed{seed}/scores.json").write_text(json.dumps({"rows": rows, "task_inference": inference}))
        (runs / f"seconds{seed}.json").write_text(json.dumps({"a": 60.0, "b": 30.0}))


def test_tables_and_figures_hold_the_same_numbers(report_methods, tmp_path):
    save_scores(tmp_path / "runs", 3)
    cfg = report_methods.Config(str(tmp_path / "runs"), str(tmp_path / "out"), 3, [10, 100])
    report_methods.main(cfg)
    read = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert set(read) == {"table1", "table4", "task_inference", "figure5a", "figure5b", "chosen"}
    assert [seed["tried"] for seed in read["chosen"]["rows"]["few_shot_maml"]] == 3 * [
        {"20 steps of 0.3": 0.4}
    ]
    for facts in read.values():
        assert (facts["seeds"], facts["seconds"]) == (3, 270)
        for name in ("floor", "ceiling", "chance"):
            assert facts[name]["test"]["mean"] == pytest.approx(0.51)
            assert facts[name]["test"]["std"] == pytest.approx(0.01)
    lines = (tmp_path / "out/table1.md").read_text().splitlines()
    assert lines[2] == "|  | test | novel composition |"
    assert "| HVAE + HyperLDM (weightgen), 10 % Q. | 51.0 ± 1.0 | 25.0 ± 0.0 |" in lines
    assert (
        "| weights of adapted latents of an HNet, 100 % Q. | 10.0 ± 0.0 | 75.0 ± 0.0 | 5.0 ± 0.0 | 50.0 ± 0.0 |"
        in ((tmp_path / "out/task_inference.md").read_text().splitlines())
    )
    curve = read["figure5a"]["curves"]["HyperLDM, 100 % Q."]
    assert list(curve) == ["0.0", "1.5"] and curve["1.5"]["seeds"] == [0.5, 0.51, 0.52]
    shares = read["figure5b"]["curves"]["Cond. HNet-MAML"]
    assert list(shares) == ["10", "100"] and shares["10"]["mean"] == pytest.approx(0.51)
    for name in ("figure5a", "figure5b"):
        with Image.open(tmp_path / f"out/{name}.png") as image:
            assert image.format == "PNG" and min(image.size) > 300


def test_one_seed_has_no_deviation(report_methods, tmp_path):
    save_scores(tmp_path / "runs", 1)
    for shares, known in (([100, 10], "all questions"), ([10], "10 % of the questions")):
        report_methods.main(report_methods.Config(str(tmp_path / "runs"), str(tmp_path / "out"), 1, shares))
        text = (tmp_path / "out/table4.md").read_text()
        assert "| chance | 50.0 | 25.0 |" in text and f"conditional methods know {known}." in text
        assert text.startswith("Few-shot, 20 gradient steps")
