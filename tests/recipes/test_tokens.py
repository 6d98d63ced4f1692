"""Every method on image tokens: the recipes as they are, on features with tokens and a network that attends to them."""

import numpy as np
import pytest
from PIL import Image

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_clip
from weightgen import InputError, WeightPipeline
from weightgen.encoders.load import load_clip
from weightgen.encoders.token_encoder import TokenEncoder
from weightgen.networks import TokenAdapter
from weightgen.training.config import parse

TOKENS = "network={_component_: weightgen.networks.TokenAdapter, grid: 2, token_dim: 3, hidden_dim: 4}"
SMALL = ["steps=2", "validate_every=1", "batch_size=4"]
HNET = "hypernet={_component_: weightgen.hypernets.HNet, hidden_dims: [8], spread: 0.1"
HVAE = "hypernet={_component_: weightgen.hypernets.HVAE, latent_dim: 2, hidden_dims: [8]}"


def pictures(number=5):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(number)]


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """Run a recipe on tasks with token features; returns the folder of its output."""
    folder = tmp_path_factory.mktemp("tokens")
    encoder = TokenEncoder.fit(load_clip(str(tiny_clip(folder / "clip"))), pictures(), grid=2, dim=3)
    encoder.save_pretrained(folder / "encoder")
    save_data(folder / "data", clip=folder / "encoder", tasks=4)

    def run(name, output, *words, data="data"):
        recipe = loaded(root, name)
        paths = [f"dataset={folder / data}", f"output={folder / output}"]
        recipe.main(parse(recipe.Config, None, [*paths, *[word.format(folder) for word in words]]))
        return folder / output

    return run


@pytest.fixture(scope="module")
def multitask(run):
    return run("train_hypernet", "multitask", TOKENS.replace("{", "{{").replace("}", "}}"), *SMALL)


@pytest.mark.parametrize(
    "words",
    [
        ["max_inner_steps=2"],
        ["max_inner_steps=2", "first_order=true"],
        [HNET.replace("{", "{{") + "}}"],
        ["hypernet={{_component_: weightgen.hypernets.FiLM, hidden_dims: [8]}}"],
        [HNET.replace("{", "{{") + ", latent_dim: 3}}", "inner_variable=latents", "max_inner_steps=1"],
    ],
)
def test_methods_that_learn_from_the_loss_of_tasks(run, multitask, words, tmp_path):
    output = run("train_hypernet", tmp_path / "learned", f"start={multitask}", *words, *SMALL)
    assert (output / "hypernet/model.safetensors").is_file()


def test_from_tokens_to_a_classifier(run, multitask):
    adapted = run("adapt_tasks", "adapted", f"start={multitask}", "steps=[2]", "draws=2", "lrs=[0.1]")
    hvae = run(
        "train_hvae",
        "hvae",
        f"adapted={adapted}",
        HVAE.replace("{", "{{").replace("}", "}}"),
        *SMALL,
        "function_weight=1",
    )
    denoiser = [
        "denoiser.hidden_dims=[8]",
        "denoiser.time_dim=4",
        "sampling.num_inference_steps=2",
        "function_tasks=2",
    ]
    pipeline = run(
        "train_hyperldm",
        "pipeline",
        f"adapted={adapted}",
        f"hvae={hvae}",
        "function_weight=1",
        "scheduler.prediction_type=sample",
        *denoiser,
        *SMALL,
    )
    pipe = WeightPipeline.from_pretrained(pipeline)
    assert isinstance(pipe.network.module, TokenAdapter) and isinstance(pipe.encoder, TokenEncoder)
    found = pipe("What color is the star?", ["red", "green"], num_inference_steps=2)
    assert found.classifier().probabilities(pictures()).shape == (5, 2)
    pooled = load_clip(str(pipeline.parent / "clip"))
    with pytest.raises(InputError, match="tokens=2"):
        found.classifier()(pooled.encode_images(pictures()))


def test_pooled_features_for_a_network_on_tokens_are_refused(run, multitask, tmp_path):
    data = save_data(tmp_path / "data", clip=multitask.parent / "clip", tasks=4)
    with pytest.raises(InputError, match="embeddings go with a CLIPAdapter"):
        run("train_hypernet", tmp_path / "a", TOKENS.replace("{", "{{").replace("}", "}}"), *SMALL, data=data)
    with pytest.raises(InputError, match="tokens=2"):
        run("train_hypernet", tmp_path / "b", f"start={multitask}", *SMALL, data=data)


def test_token_features_for_a_network_on_embeddings_are_refused(run, multitask, tmp_path):
    pooled = "network={{_component_: weightgen.networks.CLIPAdapter, hidden_dim: 4}}"
    with pytest.raises(InputError, match="features with tokens with a TokenAdapter"):
        run("train_hypernet", tmp_path / "c", pooled, *SMALL)


def test_a_hypernetwork_on_the_question_becomes_a_pipeline(run, multitask, tmp_path):
    words = [HNET.replace("{", "{{") + "}}", f"start={multitask}", *SMALL]
    conditional = run("train_hypernet", tmp_path / "conditional", *words)
    pipe = WeightPipeline.from_pretrained(
        run("make_pipeline", tmp_path / "pipeline", f"hypernet={conditional}")
    )
    out = pipe("What color is the star?", ["red", "blue"], guidance_scale=1.0)
    assert out.classifier().probabilities(pictures(2)).shape == (2, 2)
    with pytest.raises(InputError, match="does not read questions"):
        run("make_pipeline", tmp_path / "other", f"hypernet={multitask}")
