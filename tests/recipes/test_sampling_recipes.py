"""The recipes that compare samplers, and that guide by examples: what they choose, and what they write."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_pipeline
from weightgen import InputError, WeightPipeline
from weightgen.evaluation import zero_shot
from weightgen.reports.splits import load_splits

# Some schedulers of diffusers convert tensors in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPLITS = ("validation", "test", "novel_composition")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A data set of random features and two pipelines of random weights."""
    folder = tmp_path_factory.mktemp("sampling")
    pipe = tiny_pipeline(folder)
    save_data(folder / "data", SPLITS, clip=folder / "clip")
    names = [str(folder / f"pipeline{k}") for k in range(2)]
    for name in names:
        pipe.save_pretrained(name)
    return {"dataset": str(folder / "data"), "pipelines": names}


def test_the_cheapest_that_loses_nothing_is_chosen(root):
    recipe = loaded(root, "studies/compare_steps")
    curves = {
        "slow": {"5": {"mean": 0.59}, "10": {"mean": 0.61}},
        "fast": {"5": {"mean": 0.5985}, "10": {"mean": 0.62}},
    }
    assert recipe.choose(curves, 0.60) == {"scheduler": "fast", "steps": 5, "validation_accuracy": 0.5985}
    assert recipe.choose(curves, 0.61)["steps"] == 10
    assert recipe.choose(curves, 0.9)["scheduler"] is None


def test_steps_are_compared(root, paths, tmp_path):
    recipe = loaded(root, "studies/compare_steps")
    recipe.main(recipe.Config(**paths, output=str(tmp_path / "figure_steps"), steps=[2, 4], samples=2))
    report = json.loads((tmp_path / "figure_steps.json").read_text())
    assert set(report["curves"]) == {"validation", "test"}
    for curve in report["curves"]["test"].values():
        assert set(curve) == {"2", "4"} and all(len(entry["seeds"]) == 2 for entry in curve.values())
    assert report["curves"]["test"]["DDIM"]["2"]["std"] == 0  # both pipelines are one
    assert "DDPM, 50 steps" in report
    with Image.open(tmp_path / "figure_steps.png") as picture:
        assert picture.width > 300
    with pytest.raises(InputError, match="validation among the splits"):
        recipe.main(recipe.Config(**paths, output=str(tmp_path), splits=["test"]))


def test_examples_guide(root, paths, tmp_path):
    recipe = loaded(root, "studies/guide_few_shot")
    cfg = recipe.Config(
        **paths,
        output=str(tmp_path / "guided"),
        shots=[0, 2, None],
        strengths=[0.0, 5.0],
        num_inference_steps=3,
    )
    recipe.main(cfg)
    report = json.loads((tmp_path / "guided.json").read_text())
    assert set(report["accuracy"]) == {"test", "novel_composition"}
    rows = report["accuracy"]["test"]
    assert list(rows) == ["chance", "encoder", "text scale 0.0", "text scale 1.0"]
    assert set(rows["text scale 1.0"]) == {"0", "2", "all"} == set(report["chosen"][1]["text scale 0.0"])
    assert "| text scale 1.0 |" in (tmp_path / "guided.md").read_text()
    with pytest.raises(InputError, match="strengths"):
        recipe.main(recipe.Config(**paths, output=str(tmp_path), strengths=[]))


def test_guidance_of_strength_0_is_zero_shot(root, paths):
    recipe = loaded(root, "studies/guide_few_shot")
    tasks = load_splits(paths["dataset"])["test"]
    pipe = WeightPipeline.from_pretrained(paths["pipelines"][0])
    cfg = recipe.Config(**paths, num_inference_steps=3, seed=4)
    plain = zero_shot(pipe, tasks, seed=4, guidance_scale=1.0, num_inference_steps=3).macro
    assert recipe.accuracy(cfg, pipe, 1.0, tasks, 2, 0.0) == pytest.approx(plain)
    assert recipe.accuracy(cfg, pipe, 1.0, tasks, 0, 9.0) == pytest.approx(plain)


def test_data_of_other_splits(root, paths, tmp_path):
    """Meta-VQA has no novel compositions."""
    folder = paths["pipelines"][0]
    data = str(save_data(tmp_path / "data", ("validation", "test"), clip=Path(folder).parent / "clip"))
    words = {"dataset": data, "pipelines": [folder], "output": str(tmp_path / "guided")}
    recipe = loaded(root, "studies/guide_few_shot")
    few = {"num_inference_steps": 2, "shots": [1], "strengths": [1.0], "text_scales": [1.0]}
    recipe.main(recipe.Config(**words, **few))
    assert set(json.loads((tmp_path / "guided.json").read_text())["accuracy"]) == {"test"}
    recipe = loaded(root, "studies/compare_steps")
    with pytest.raises(InputError, match="no split 'novel_composition', but "):
        recipe.main(recipe.Config(**words, splits=["validation", "novel_composition"]))
