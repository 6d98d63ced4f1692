"""Parts of a data set by meaning, and the table of the study that trains on them."""

import json

import pytest

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.reports.scaling import write_scaling
from weightgen.training.config import parse


def save(folder, named=True):
    def task(question, meaning):
        pictures = ["a", "b"], [0, 1]
        return Task(question, ["red", "blue"], *pictures, *pictures, "it is {}", meaning if named else "")

    train = [task(f"question {i} in words {w}", f"meaning {i}") for i in range(6) for w in range(2)]
    save_meta_vqa({"train": train, "validation": [task("another", "other")]}, folder)


def taken(root, folder, **words):
    recipe = loaded(root, "studies/take_meanings")
    recipe.main(recipe.Config(dataset=str(folder / "data"), output=str(folder / "part"), **words))
    return load_meta_vqa(folder / "part")


def test_all_wordings_of_a_chosen_meaning_are_kept_and_nothing_else(root, tmp_path):
    save(tmp_path / "data")
    part = taken(root, tmp_path, meanings=2)
    kept = list(part["train"]["meaning"])
    assert len(kept) == 4 and len(set(kept)) == 2
    assert part["validation"].to_list() == load_meta_vqa(tmp_path / "data")["validation"].to_list()


def test_without_meanings_every_question_counts_as_one(root, tmp_path, capsys):
    save(tmp_path / "data", named=False)
    assert len(taken(root, tmp_path, meanings=3)["train"]) == 3
    assert "every question counts as one" in capsys.readouterr().err


@pytest.mark.parametrize("count", [0, 7])
def test_a_number_of_meanings_that_is_not_there_is_refused(root, tmp_path, count):
    save(tmp_path / "data")
    with pytest.raises(InputError, match="from 1 to 6 meanings"):
        taken(root, tmp_path, meanings=count)


def test_every_stage_is_a_command_that_its_script_understands(root, tmp_path):
    recipe = loaded(root, "studies/scale_meanings")
    cfg = recipe.Config(dataset="data", output="out", runs=str(tmp_path), meanings=[1, 2], diffusion=True)
    for stage in recipe.stages(cfg, 0).values():
        script, *words = stage.command
        other = loaded(root, script.removeprefix("recipes/").removesuffix(".py"))
        words = [str(root / word) if word.startswith("recipes/configs") else word for word in words]
        parse(other.Config, None, words)


def test_the_table_holds_the_mean_over_seeds(tmp_path):
    seeds = [
        {
            row: {"validation": {"1": scores}, "test": {"1": scores}}
            for row, scores in {
                "chance": {"accuracy": 0.2},
                "A, pooled": {"accuracy": value, "nll": 2 * value, "calibration_error": 0.1},
            }.items()
        }
        for value in (0.25, 0.75)
    ]
    write_scaling(tmp_path / "study", [1], seeds)
    text = (tmp_path / "study.md").read_text()
    assert "| A, pooled | 50.0 ± 35.4 |" in text
    assert "| A, pooled | 1.00 ± 0.71 | 10.0 ± 0.0 |" in text and text.count("chance") == 1
    assert json.loads((tmp_path / "study.json").read_text())["seeds"] == 2
    assert (tmp_path / "study.png").is_file()
