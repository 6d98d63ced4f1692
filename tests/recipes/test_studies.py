"""The studies of support sets and of a trained generator, as they are run, on runs of random weights."""

import dataclasses
import json

import pytest
import torch

from tests.recipes.small import fill_zoo, loaded, save_data
from tests.tiny import E, Z, tiny_pipeline
from weightgen import InputError
from weightgen.hypernets import SharedWeights, SupportHNet
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.priors import MLPDenoiser
from weightgen.storage.files import write_json
from weightgen.storage.hub import class_path
from weightgen.weights import WeightSpace

SPLITS = ("train", "validation", "test", "unseen_classes")
D = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of random features; runs of a SupportHNet and of one set of weights; a pipeline that takes examples."""
    folder = tmp_path_factory.mktemp("studies")
    pipe = tiny_pipeline(folder)
    network, space = pipe.network, pipe.network.space
    save_data(folder / "data", SPLITS, clip=folder / "clip", tasks=4)

    def save(name, hypernet, facts="training.json", **more):
        hypernet.save_pretrained(folder / name / "hypernet")
        network.module.save_pretrained(folder / name / "network")
        kinds = {"network": class_path(network.module), "hypernet": class_path(hypernet)}
        write_json(folder / name / facts, {**kinds, **more})

    shared = SharedWeights(space).init_weights(torch.randn(space.size))
    support = SupportHNet.for_network(network, dim=8, rounds=2, step=0.1, embed_dim=D)
    support.init_weights(shared.weights.detach())
    support.fit(torch.randn(40, space.size))
    save("start", shared)
    save("support", support)
    save("adapted", shared, "adapted.json", steps=2, lr=0.1, inner_variable="weights")
    fill_zoo(folder / "adapted", space, torch.randn(2, 4, space.size))
    pipe.save_pretrained(folder / "plain")
    denoiser = MLPDenoiser(latent_dim=Z, embed_dim=E, hidden_dims=(16,), time_dim=8, support_dim=D)
    denoiser.embeds.fit(torch.randn(9, E))
    denoiser.supports.fit(torch.randn(9, D))
    pipe.prior.denoiser = denoiser
    both = WeightPipeline(pipe.encoder, pipe.prior, pipe.hypernet, network, support=support.eval())
    both.save_pretrained(folder / "both")
    return folder


def test_scores_beside_gradient_steps(folder, root):
    recipe = loaded(root, "studies/score_support")
    cfg = recipe.Config(
        dataset=str(folder / "data"), runs=[str(folder / "support")] * 2, starts=[str(folder / "start")] * 2,
        output=str(folder / "scores"), shots=[1, None], steps=2, lrs=[0.1, 0.0], timed_tasks=1, timed_batch=2,
    )  # fmt: skip
    recipe.main(cfg)
    report = json.loads((folder / "scores.json").read_text())
    assert set(report["accuracy"]) == {"test", "unseen_classes"}
    rows = report["accuracy"]["test"]
    assert rows["chance"]["1"] == {"mean": 0.5, "std": 0.0, "seeds": [0.5, 0.5]}
    assert list(rows) == ["chance", "encoder", "2 gradient steps", "SupportHNet, one pass"]
    assert all(set(row) == {"1", "all"} for row in rows.values())
    assert all(0 <= value["mean"] <= 1 for row in rows.values() for value in row.values())
    assert all(set(lrs) == {"1", "all"} and set(lrs.values()) <= {0.1, 0.0} for lrs in report["lrs"])
    assert all(ms > 0 for way in report["milliseconds"].values() for ms in way.values())
    text = (folder / "scores.md").read_text()
    assert "| chance | 50.0 ± 0.0 | 50.0 ± 0.0 |" in text and "2 training seeds" in text
    with pytest.raises(InputError, match="one of starts for each of runs, got 1 and 2"):
        recipe.main(dataclasses.replace(cfg, starts=cfg.starts[:1]))


def test_scores_of_questions_examples_and_both(folder, root):
    recipe = loaded(root, "studies/score_text_and_support")
    cfg = recipe.Config(
        dataset=str(folder / "data"), pipelines=[str(folder / "both")] * 2, output=str(folder / "text_and_support"),
        shots=[1, None], scales=[1.0], support_scales=[1.0, 2.0], num_inference_steps=2,
    )  # fmt: skip
    recipe.main(cfg)
    report = json.loads((folder / "text_and_support.json").read_text())
    rows = report["accuracy"]["unseen_classes"]
    assert list(rows)[2:] == ["question only", "examples only", "question and examples", "examples, one pass"]
    assert rows["question only"]["1"] == rows["question only"]["all"]
    assert all(value["std"] == 0 for row in rows.values() for value in row.values())  # both pipelines are one
    assert report["chosen"][0]["examples only"]["1"] in ([1.0, 1.0], [1.0, 2.0])
    assert "| question and examples |" in (folder / "text_and_support.md").read_text()
    with pytest.raises(InputError, match="takes questions only"):
        recipe.main(dataclasses.replace(cfg, pipelines=[str(folder / "plain")]))


def test_the_evaluator_takes_examples_too(folder, root):
    recipe = loaded(root, "evaluate")
    start = str(folder / "start")
    cfg = recipe.Config(
        dataset=str(folder / "data"), pipeline=str(folder / "both"), multitask=start, cond_multitask=start, start=start,
        adapted=str(folder / "adapted"), support=str(folder / "support"), output=str(folder / "report.json"),
        scales=[1.0], curve=[1.0], seeds=[0], shots=[1], steps=1, lrs=[0.1], logistic_c=[1.0], neighbours=[1],
        num_inference_steps=2,
    )  # fmt: skip
    recipe.main(cfg)
    report = json.loads((folder / "report.json").read_text())
    methods = {"maml", "logistic_regression", "nearest_centroid", "support_hnet", "question_and_examples"} | {
        "question_mixed_with_examples"
    }
    assert set(report["splits"]["test"]["few_shot"]) == methods


def test_a_generator_is_examined(folder, root):
    recipe = loaded(root, "studies/examine_generator")
    cfg = recipe.Config(
        dataset=str(folder / "data"), pipeline=str(folder / "plain"), adapted=str(folder / "adapted"),
        output=str(folder / "examined.json"), samples=[1, 2], steps=[0, 1], shots=[0, 1], shot_steps=1,
        num_inference_steps=2,
    )  # fmt: skip
    recipe.main(cfg)
    report = json.loads((folder / "examined.json").read_text())
    zero_shot = report["ensembles"]["weights"]["1"]["accuracy"]
    assert report["ensembles"]["probabilities"]["1"]["accuracy"] == pytest.approx(zero_shot)
    for curve in (report["steps"]["sampled"], report["shots"]["sampled"]):
        assert curve["0"] == pytest.approx(zero_shot)  # both begin at the sampled weights
    copies = report["memorisation"]["rows"]["weights of the most similar question plus noise 0"]
    assert (copies["distance"], copies["copies"]) == (0, 1) and copies["error_overlap"] > 0.9
    with pytest.raises(InputError, match="no split 'tset'"):
        recipe.main(dataclasses.replace(cfg, split="tset"))
    write_json(folder / "other/adapted.json", {**json.loads((folder / "adapted/adapted.json").read_text())})
    fill_zoo(folder / "other", WeightSpace((("w", (7,)),)), torch.randn(2, 3, 7))
    with pytest.raises(InputError, match="give the adapted weights of this data set and pipeline"):
        recipe.main(dataclasses.replace(cfg, adapted=str(folder / "other")))
