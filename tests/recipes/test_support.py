"""The recipes on support sets: a stopped run goes on bit for bit, and what it wrote is scored beside gradient steps."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from tests.recipes.small import loaded
from tests.recipes.test_hyperldm import save_data
from tests.tiny import tiny_clip
from weightgen import InputError
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.encoders.load import load_clip
from weightgen.hypernets import SharedWeights, SupportHNet
from weightgen.networks import CLIPAdapter
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.storage.files import read_tensors, write_json
from weightgen.storage.hub import load_part
from weightgen.weights import WeightSpace

SMALL = {"steps": 4, "validate_every": 2, "batch_size": 3, "shots": [1, 0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four tasks of random features, and a starting point."""
    folder = tmp_path_factory.mktemp("support")
    clip = load_clip(str(tiny_clip(folder / "clip")))
    save_data(folder / "data", clip, str(folder / "clip"))
    network = CLIPAdapter(clip.image_dim, 3)
    space = WeightSpace.of(network)
    network.save_pretrained(folder / "start/network")
    SharedWeights(space).init_weights(torch.randn(space.size)).save_pretrained(folder / "start/hypernet")
    write_json(folder / "start/training.json", {})
    return folder


@pytest.fixture(scope="module")
def train(root, folder):
    recipe = loaded(root, "train_support")

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
    recipe = loaded(root, "score_support")
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


@pytest.fixture(scope="module")
def pipeline(train, folder, root):
    """From weights written in one pass to a pipeline that takes examples."""
    support = train("chained")
    common = {"dataset": str(folder / "data"), "seed": 0}
    adapt = loaded(root, "adapt_tasks")
    adapt.main(adapt.Config(start=str(folder / "start"), support=str(support), output=str(folder / "adapted"),
                            draws=2, steps=[1], lrs=[0.1], **common))  # fmt: skip
    hvae = loaded(root, "train_hvae")
    spec = {"_component_": "weightgen.hypernets.HVAE", "latent_dim": 3, "hidden_dims": [8]}
    hvae.main(hvae.Config(adapted=str(folder / "adapted"), output=str(folder / "hvae"), hypernet=spec, steps=2,
                          batch_size=2, validate_every=1, **common))  # fmt: skip
    ldm = loaded(root, "train_hyperldm")
    denoiser = {"_component_": "weightgen.priors.MLPDenoiser", "hidden_dims": [8], "support_noise": 0.1}
    ldm.main(ldm.Config(adapted=str(folder / "adapted"), hvae=str(folder / "hvae"), support=str(support),
                        output=str(folder / "pipeline"), denoiser=denoiser, steps=3, batch_size=8, validate_every=2,
                        validate_shots=1, support_draws=2, num_inference_steps=2, **common))  # fmt: skip
    return folder / "pipeline"


def test_weights_written_in_one_pass_are_training_data(pipeline, folder, root):
    tensors = read_tensors(folder / "adapted/adapted.safetensors")
    assert tensors["weights"].shape[:2] == (2, 4) and tensors["validation"].shape[0] == 4
    assert (tensors["weights"][0] != tensors["weights"][1]).any(dim=-1).all()
    facts = json.loads((folder / "adapted/adapted.json").read_text())
    assert facts["support"] == str(folder / "chained") and facts["steps"] == 1
    hypernet = load_part(SupportHNet, folder / "chained/hypernet")
    store = find_features(folder / "data", None)
    tasks = MetaVQATasks(load_meta_vqa(folder / "data")["validation"], store)
    batch = tasks.batch()
    torch.testing.assert_close(tensors["validation"], hypernet(batch.support, batch.context["answers"]))
    hyperclip = loaded(root, "train_hyperclip")
    held = hyperclip.Held(hyperclip.Config(adapted=str(folder / "adapted")), tasks)
    torch.testing.assert_close(held.weights, tensors["validation"])  # not those of gradient steps


def test_a_pipeline_learns_from_examples(pipeline, folder):
    pipe = WeightPipeline.from_pretrained(pipeline)
    hypernet = load_part(SupportHNet, folder / "chained/hypernet")
    assert torch.equal(pipe.support.components, hypernet.components)
    images = [Image.new("RGB", (32, 32), color) for color in ("red", "green")]
    found = pipe(None, ["red", "green"], support=(images, ["red", "green"]), num_inference_steps=2)
    assert found.weights.isfinite().all() and found.classifier().predict(images)


def test_scores_of_questions_examples_and_both(pipeline, folder, root):
    recipe = loaded(root, "score_text_and_support")
    cfg = recipe.Config(
        dataset=str(folder / "data"), pipelines=[str(pipeline)] * 2, output=str(folder / "both"), shots=[1, 0],
        scales=[1.0], support_scales=[1.0, 2.0], num_inference_steps=2,
    )  # fmt: skip
    recipe.main(cfg)
    report = json.loads((folder / "both.json").read_text())
    rows = report["accuracy"]["test"]
    assert list(rows)[2:] == ["question only", "examples only", "question and examples", "examples, one pass"]
    assert rows["question only"]["1"] == rows["question only"]["0"]
    assert all(
        0 <= value["mean"] <= 1 and value["std"] == 0 for row in rows.values() for value in row.values()
    )
    assert "| question and examples |" in (folder / "both.md").read_text()
    plain = WeightPipeline.from_pretrained(pipeline)
    plain.support = None
    with pytest.raises(InputError, match="takes questions only"):
        recipe.support_of(plain)


def test_latents_are_not_written_in_one_pass(folder, root):
    adapt = loaded(root, "adapt_tasks")
    with pytest.raises(InputError, match="writes weights, no latents"):
        adapt.main(adapt.Config(dataset=str(folder / "data"), start=str(folder / "start"), output=str(folder / "x"),
                                support=str(folder / "y"), point="latents"))  # fmt: skip
