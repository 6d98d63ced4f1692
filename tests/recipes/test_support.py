"""SupportHNet as its recipe trains it, and what is trained on the weights that it writes."""

import json

import pytest
import torch
from PIL import Image

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_clip
from weightgen import InputError, training
from weightgen.data import load_tasks
from weightgen.encoders.load import load_clip
from weightgen.hypernets import SharedWeights, SupportHNet
from weightgen.networks import CLIPAdapter
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.storage.files import write_json
from weightgen.storage.hub import class_path, load_part
from weightgen.weights import FunctionalNetwork

SMALL = {"steps": 4, "validate_every": 2, "batch_size": 3, "shots": [1, None]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four tasks of random features, and a starting point."""
    folder = tmp_path_factory.mktemp("support")
    clip = load_clip(str(tiny_clip(folder / "clip")))
    save_data(folder / "data", clip=folder / "clip", tasks=4)
    network = FunctionalNetwork(CLIPAdapter(clip.image_dim, 3))
    shared = SharedWeights(network.space).init_weights(torch.randn(network.space.size))
    facts = {}
    for name, module in (("network", network.module), ("hypernet", shared)):
        module.save_pretrained(folder / "start" / name)
        facts[name] = class_path(module)
    write_json(folder / "start/training.json", facts)
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


def test_the_facts_of_the_best_state(train):
    facts = json.loads((train("facts") / "training.json").read_text())
    assert facts["step"] in (2, 4) and set(facts["by_shots"]) == {"1", "all"}
    assert facts["validation_accuracy"] == pytest.approx(sum(facts["by_shots"].values()) / 2)
    assert facts["hypernet"].endswith("SupportHNet") and facts["network"].endswith("CLIPAdapter")


def test_it_begins_at_the_start_and_learns(train, folder):
    hypernet = load_part(SupportHNet, train("trained") / "hypernet")
    start = load_part(SharedWeights, folder / "start/hypernet").weights
    assert 0 < (hypernet.base - start).abs().max() < 0.1
    assert hypernet.components.norm(dim=1).min() > 0.9  # the axes of the support embedding are there


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
                        validate_shots=1, support_draws=2, sampling={"num_inference_steps": 2}, **common))  # fmt: skip
    return folder / "pipeline"


def test_weights_written_in_one_pass_are_training_data(pipeline, folder):
    adapted = training.AdaptedTasks.load(folder / "adapted")
    assert adapted.zoo.shape[:2] == (2, 4) and adapted.steps == 1
    assert (adapted.weights[0] != adapted.weights[1]).any(dim=-1).all()
    torch.testing.assert_close(adapted.mean_weights(), adapted.weights.mean(dim=0))
    hypernet = load_part(SupportHNet, folder / "chained/hypernet")
    (tasks,) = load_tasks(folder / "data", "validation")
    batch = tasks.batch()
    # Weights of other tasks come in one pass, too, not by gradient steps.
    torch.testing.assert_close(adapted.adapt(batch), hypernet(batch.support, batch.context["answers"]))


def test_a_pipeline_learns_from_examples(pipeline, folder):
    pipe = WeightPipeline.from_pretrained(pipeline)
    hypernet = load_part(SupportHNet, folder / "chained/hypernet")
    assert torch.equal(pipe.support.components, hypernet.components)
    images = [Image.new("RGB", (32, 32), color) for color in ("red", "green")]
    found = pipe(None, ["red", "green"], support=(images, ["red", "green"]), num_inference_steps=2)
    assert found.weights.isfinite().all() and found.classifier().predict(images)


def test_latents_are_not_written_in_one_pass(folder, root):
    adapt = loaded(root, "adapt_tasks")
    with pytest.raises(InputError, match="writes weights, no latents"):
        adapt.main(adapt.Config(dataset=str(folder / "data"), start=str(folder / "start"), output=str(folder / "x"),
                                support=str(folder / "y"), inner_variable="latents"))  # fmt: skip


def test_the_form_of_earlier_versions_is_refused(pipeline, folder, tmp_path):
    (tmp_path / "adapted.json").write_bytes((folder / "adapted/adapted.json").read_bytes())
    (tmp_path / "adapted.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="earlier version, as adapted.safetensors: run adapt_tasks again"):
        _ = training.AdaptedTasks.load(tmp_path).zoo
