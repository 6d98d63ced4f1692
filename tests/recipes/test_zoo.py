"""From a zoo of weights without tasks to a pipeline: losses of weights alone, and any encoder of texts."""

import json

import pytest
import torch

from tests.recipes.small import loaded
from tests.tiny import tiny_clip
from weightgen import InputError, WeightPipeline
from weightgen.data.zoo.importing import import_zoo
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.pipelines.generated_weights import GeneratedWeights
from weightgen.storage.files import read_json, write_tensors
from weightgen.storage.hub import class_named, load_part

WORDS = [f"{color} {shape}" for color in ("red", "green", "blue") for shape in ("star", "moon")]
HVAE = {"_component_": "weightgen.hypernets.HVAE", "latent_dim": 3, "hidden_dims": [8]}
DENOISER = {"_component_": "weightgen.priors.MLPDenoiser", "hidden_dims": [8]}
FEW = {"steps": 4, "batch_size": 4, "validate_every": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo of two layers, one of which is a thousand times as large as the other; two draws of six texts."""
    folder = tmp_path_factory.mktemp("zoo")
    torch.manual_seed(0)
    tiny_clip(folder / "clip")
    rows = []
    for number, text in enumerate(WORDS):
        middle = torch.randn(12)
        for draw in range(2):
            weights = middle + 0.1 * torch.randn(12)
            layers = {"net.weight": 1000 * weights[:8].reshape(2, 4), "net.bias": weights[8:]}
            write_tensors(folder / f"nets/{number}/{draw}.safetensors", layers)
        rows.append({"name": str(number), "text": f"the {text}"})
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    import_zoo(folder / "nets", folder / "zoo", folder / "texts.jsonl")
    return folder


@pytest.fixture(scope="module")
def hvae(folder, root):
    recipe = loaded(root, "train_hvae")
    recipe.main(
        recipe.Config(adapted=str(folder / "zoo"), output=str(folder / "hvae"), hypernet=HVAE, lr=0.01, **FEW)
    )
    return folder / "hvae"


@pytest.fixture(scope="module")
def pipeline(folder, hvae, root):
    recipe = loaded(root, "train_hyperldm")
    recipe.main(
        recipe.Config(
            adapted=str(folder / "zoo"),
            hvae=str(hvae),
            output=str(folder / "pipeline"),
            denoiser=DENOISER,
            text_encoder=str(folder / "clip"),
            **FEW,
        )  # fmt: skip
    )
    return folder / "pipeline"


def test_an_autoencoder_of_weights_alone(hvae):
    facts = read_json(hvae / "training.json")
    assert facts["minus_validation_loss"] < 0 == facts["adapted_score"]
    module = load_part(class_named(facts["hypernet"]), hvae / "hypernet")
    std = module.standardizer.std
    assert len(std[:4].unique()) == len(std[4:].unique()) == 1 and std[4] > 100 * std[0]  # bias, then weight


def test_a_pipeline_samples_state_dictionaries(pipeline, folder):
    assert read_json(pipeline / "training.json")["minus_validation_loss"] < 0
    pipe = WeightPipeline.from_pretrained(pipeline)
    how = {"num_samples": 2, "num_inference_steps": 2}
    out = pipe("the red moon", generator=torch.Generator().manual_seed(0), **how)
    state = out.state_dict(0, 1)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "net.bias": (4,),
        "net.weight": (2, 4),
    }
    assert pipe.network.module.state_dict().keys() == state.keys()
    out.save(folder / "weights.safetensors")
    assert torch.equal(GeneratedWeights.load(folder / "weights.safetensors", pipe).weights, out.weights)
    pipe.save_pretrained(folder / "again")
    again = WeightPipeline.from_pretrained(folder / "again")
    found = again("the red moon", generator=torch.Generator().manual_seed(0), **how)
    assert torch.equal(found.weights, out.weights)
    with pytest.raises(InputError, match="not the network that uses them"):
        pipe.network(out.weights[0], torch.zeros(2, 1, 4))


def test_texts_of_weights(folder, hvae, root):
    recipe = loaded(root, "train_hyperclip")
    spec = {"_component_": "weightgen.encoders.hyperclip.HyperCLIP", "hidden_dims": [8], "standardize": True}
    cfg = recipe.Config(
        adapted=str(folder / "zoo"), output=str(folder / "hyperclip"), encoder=spec, text_encoder=str(folder / "clip"), **FEW,
    )  # fmt: skip
    recipe.main(cfg)
    encoder = load_part(HyperCLIP, folder / "hyperclip/encoder")
    assert encoder.weights.std.unique().numel() == 2
    assert read_json(folder / "hyperclip/training.json")["validation"]["candidates"] == 1


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("train_hvae", {"function_weight": 1.0}, "function_weight needs tasks"),
        ("train_hyperldm", {"support": "."}, "support needs tasks"),
        ("train_hyperldm", {}, "give hvae="),
        ("train_hyperldm", {"hvae": "HVAE", "text_encoder": "nothing"}, "nothing"),
        ("train_hvae", {"adapted": "clip"}, "no zoo of weights"),
    ],
)
def test_what_needs_tasks(folder, hvae, root, name, settings, reason):
    recipe = loaded(root, name)
    given = {
        "adapted": str(folder / settings.get("adapted", "zoo")),
        **{k: v for k, v in settings.items() if k != "adapted"},
    }
    given = {
        key: str(hvae) if value == "HVAE" else str(folder) if value == "." else value
        for key, value in given.items()
    }
    if name == "train_hyperldm":
        given = {"text_encoder": str(folder / "clip"), **given}
    with pytest.raises(InputError, match=reason):
        recipe.main(recipe.Config(output=str(folder / f"wrong_{reason[:4]}"), **given, **FEW))
