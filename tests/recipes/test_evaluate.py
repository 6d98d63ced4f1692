"""The evaluator: its report on splits of any name; and one number for one model and split, whichever way one asks."""

import json

import pytest
import torch
from PIL import Image

from tests.recipes.small import fill_zoo, loaded, save_data
from tests.tiny import tiny_pipeline
from weightgen import InputError
from weightgen.cli import main as command_line
from weightgen.hypernets import HNet, SharedWeights
from weightgen.pipelines.familiarity import Familiarity
from weightgen.reports.evaluation import evaluation_text, familiarity_rows
from weightgen.reports.scorers import sampled
from weightgen.reports.splits import load_splits
from weightgen.storage.files import write_json
from weightgen.storage.hub import class_path

SPLITS = ("train", "validation", "test", "unseen_classes")
STEPS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of random features, a pipeline of random weights, and runs of the simplest kind."""
    folder = tmp_path_factory.mktemp("evaluate")
    pipe = tiny_pipeline(folder)
    save_data(folder / "data", SPLITS, clip=folder / "clip", tasks=4)
    pipe.save_pretrained(folder / "runs/hyperldm_100")
    space, module = pipe.network.space, pipe.network.module

    def save(name, hypernet, facts="training.json", **more):
        hypernet.save_pretrained(folder / name / "hypernet")
        module.save_pretrained(folder / name / "network")
        write_json(
            folder / name / facts, {"network": class_path(module), "hypernet": class_path(hypernet), **more}
        )

    shared = SharedWeights(space).init_weights(torch.randn(space.size))
    save("multitask", shared)
    save("conditional", HNet(space, input_dim=24, hidden_dims=(4,)).fit(torch.randn(9, 24)))
    save("adapted", shared, "adapted.json", steps=2, lr=0.1, inner_variable="weights")
    fill_zoo(folder / "adapted", space, torch.randn(2, 4, space.size))
    return folder


def settings(folder, output, **words):
    runs = {
        "multitask": "multitask",
        "cond_multitask": "conditional",
        "start": "multitask",
        "adapted": "adapted",
    }
    paths = {name: str(folder / run) for name, run in runs.items()}
    few = {"curve": [0.0, 1.0], "seeds": [7, 8], "num_inference_steps": STEPS, "steps": 2, "lrs": [0.1, 1e38],
           "shots": [1, None], "logistic_c": [1.0], "neighbours": [1, 2, 99]}  # fmt: skip
    data = {
        "dataset": str(folder / "data"),
        "pipeline": str(folder / "runs/hyperldm_100"),
        "output": str(output),
    }
    return {**paths, **few, **data, **words}


def test_a_report_on_splits_of_any_name(root, folder, tmp_path, capsys):
    recipe = loaded(root, "evaluate")
    recipe.main(recipe.Config(**settings(folder, tmp_path / "made/report.json")))
    report = json.loads((tmp_path / "made/report.json").read_text())
    assert set(report["splits"]) == set(SPLITS) - {"train"}
    for rows in report["splits"].values():
        assert set(rows) == {
            "chance", "encoder", "encoder_with_question", "uncond_multitask", "cond_multitask", "hyperldm",
            "hyperldm_shuffled", "neighbours_average", "few_shot",
        }  # fmt: skip
        assert set(rows["hyperldm"]) == {"0.0", "1.0", "1.5"} and rows["chance"] == 0.5
        assert set(rows["few_shot"]) == {
            "maml",
            "logistic_regression",
            "nearest_centroid",
            "question_mixed_with_examples",
        }
        assert all(set(row) == {"1", "all"} for row in rows["few_shot"].values())
    assert report["chosen"]["maml"] == {"1": 0.1, "all": 0.1}  # the other step size diverges
    assert report["chosen"]["neighbours"] in (1, 2)
    assert (
        set(report["validation_guidance_curve"]) == {"0.0", "1.0"} and report["tasks"]["unseen_classes"] == 4
    )
    assert {"seconds", "seeds", "versions", "settings"} <= set(report)
    text = (tmp_path / "made/report.md").read_text()
    assert "|  | validation | test | unseen classes |" in text and text in capsys.readouterr().out
    for name in ("accuracies.png", "guidance.png"):
        with Image.open(tmp_path / "made" / name) as image:
            assert image.format == "PNG"


class Asked:
    """A pipeline and a split, for `familiarity_rows`, which reads their questions only."""

    def __init__(self, embeds, familiarity=None):
        self.embeds, self.familiarity = embeds, familiarity


def test_familiarity_tells_known_from_novel_questions_in_any_split():
    centres = 3 * torch.eye(8)
    known = centres[:5].repeat(3, 1) + 0.1 * torch.randn(15, 8)
    pipe = Asked(known, Familiarity.fitted(known, [str(i % 5) for i in range(15)]))
    more = centres[:5] + 0.1 * torch.randn(5, 8)
    tasks = {"validation": Asked(more), "novel": Asked(centres[5:] + 0.1 * torch.randn(3, 8))}
    rows = familiarity_rows(pipe, tasks)
    assert rows["validation"]["auroc"] == 0.5 and rows["novel"]["auroc"] == 1
    assert rows["validation"]["mean"] > 0.5 > rows["novel"]["mean"]
    report = {"splits": {"test": {"chance": 0.5}}, "sd": {"test": {}}, "seeds": [0], "familiarity": rows}
    assert "| novel | " in evaluation_text(report) and "| 1.00 |" in evaluation_text(report)
    assert familiarity_rows(Asked(known), tasks) == {}


def test_parts_of_the_validation_split_are_not_scored_again(folder, tmp_path):
    save_data(tmp_path / "data", ("train", "validation", "validation_new", "test"), clip=folder / "clip")
    assert list(load_splits(str(tmp_path / "data"))) == ["validation", "test"]
    assert "validation_new" in load_splits(str(tmp_path / "data"), needs=("validation_new",))


def test_one_model_and_split_have_one_number(root, folder, tmp_path):
    """The evaluator, the table of methods and the command line."""
    recipe = loaded(root, "evaluate")
    few = {"seeds": [7], "scales": [1.5], "curve": [1.0], "shots": [1], "lrs": [0.1]}
    recipe.main(recipe.Config(**settings(folder, tmp_path / "report.json", **few)))
    report = json.loads((tmp_path / "report.json").read_text())

    tasks = load_splits(str(folder / "data"))
    score = sampled(folder / "runs/hyperldm_100", tasks, seed=7, num_inference_steps=STEPS)

    for split in ("test", "unseen_classes"):
        found = report["splits"][split]["hyperldm"]["1.5"]
        assert score(tasks[split], (1.5, 1.0)) == found
        words = ["--model", folder / "runs/hyperldm_100", "--dataset", folder / "data", "--split", split, "--seed", 7,
                 "--steps", STEPS, "--guidance-scale", 1.5, "--output", tmp_path / f"{split}.json"]  # fmt: skip
        command_line(["evaluate", *map(str, words)])
        rows = json.loads((tmp_path / f"{split}.json").read_text())["splits"][split]["accuracy"]
        assert rows["sampled"]["macro"] == found
        assert rows["encoder"]["macro"] == report["splits"][split]["encoder"]


def test_wrong_use(root, folder, tmp_path):
    recipe = loaded(root, "evaluate")
    with pytest.raises(InputError, match="at least one number each"):
        recipe.main(recipe.Config(**settings(folder, tmp_path / "report.json", seeds=[])))
    save_data(tmp_path / "data", ("train", "test"), clip=folder / "clip")
    with pytest.raises(InputError, match="no split 'validation'"):
        recipe.main(
            recipe.Config(**settings(folder, tmp_path / "report.json", dataset=str(tmp_path / "data")))
        )
    assert not (tmp_path / "report.json").exists()
