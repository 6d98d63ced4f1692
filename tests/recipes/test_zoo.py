"""From a zoo of weights without tasks to a pipeline: losses of weights alone, and any encoder of texts."""

import json
import sys

import pytest
import torch

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_clip
from weightgen import InputError, WeightPipeline
from weightgen.data.zoo import Zoo
from weightgen.data.zoo.importing import import_zoo
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.pipelines.generated_weights import GeneratedWeights
from weightgen.storage.files import read_json, write_tensors
from weightgen.storage.hub import class_named, load_part
from weightgen.training import load_source

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


OWN = """
import torch
from torch import nn

class Distance(nn.Module):
    def __init__(self, zoo, scale: float = 1.0, wrong: bool = False):
        super().__init__()
        self.zoo, self.scale, self.wrong = zoo, scale, wrong
        self.seen = []

    def forward(self, weights, tasks):
        assert all(self.zoo.tasks()[task]["text"].startswith("the ") for task in tasks.tolist())
        difference = weights[:, :4] - self.zoo.at(torch.zeros_like(tasks), tasks)[:, :4]
        found = self.scale * difference.square().mean(dim=-1)
        return found.mean() if self.wrong else found
"""


@pytest.fixture
def score(folder, monkeypatch):
    (folder / "own_score.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(folder))
    yield {"_component_": "own_score.Distance", "scale": 2.0}
    sys.modules.pop("own_score", None)


def test_a_score_of_ones_own_is_trained_on(folder, root, score):
    """The score sees the biases alone, which are tiny beside the other weights; it counts in the choice of the state, too."""
    common = {"adapted": str(folder / "zoo"), "trust_remote_code": True, "function_weight": 1.0, **FEW}
    recipe = loaded(root, "train_hvae")
    output = folder / "scored_hvae"
    recipe.main(recipe.Config(output=str(output), hypernet=HVAE, score=score, lr=0.01, **common))
    facts = read_json(output / "training.json")
    assert facts["minus_validation_loss"] < 0 == facts["adapted_score"]
    recipe = loaded(root, "train_hyperldm")
    cfg = recipe.Config(
        output=str(folder / "scored"), hvae=str(output), denoiser=DENOISER, text_encoder=str(folder / "clip"), score=score,
        scheduler={"_component_": "weightgen.priors.paper_schedule", "prediction_type": "sample"}, function_tasks=3,
        sampling={"num_samples": 2, "num_inference_steps": 2}, **common,
    )  # fmt: skip
    recipe.main(cfg)
    facts = read_json(folder / "scored/training.json")
    pipe, zoo = WeightPipeline.from_pretrained(folder / "scored"), Zoo.load(folder / "zoo")
    source, _, held_out = load_source(cfg, "cpu", "train", "validation")
    expected = source.zero_shot(pipe, held_out, None, guidance_scale=1.5, **cfg.sampling)
    assert facts["minus_validation_loss"] == pytest.approx(expected, rel=1e-4)
    row = zoo.tasks()[int(held_out.numbers[0])]["text"]
    assert row == held_out.questions[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trust_remote_code": False}, "must be the class of a score, .*trust_remote_code=true"),
        ({"wrong": True}, r"Distance returns \(\) for . weight vectors: expected one loss for each"),
        ({"dataset": "data"}, "score is for a zoo without tasks"),
        ({"scales": 2}, "has no argument 'scales'. Did you mean: 'scale'"),
    ],
)
def test_a_wrong_score_is_told(folder, root, score, change, reason):
    settings = {name: value for name, value in change.items() if name in ("trust_remote_code", "dataset")}
    own = {name: value for name, value in change.items() if name not in settings}
    given = {
        "adapted": str(folder / "zoo"),
        "trust_remote_code": True,
        "function_weight": 1.0,
        **FEW,
    } | settings
    recipe = loaded(root, "train_hvae")
    if "dataset" in settings:
        given["dataset"] = str(save_data(folder / "data"))
    with pytest.raises((InputError, TypeError), match=reason):
        recipe.main(
            recipe.Config(
                output=str(folder / f"wrong_{reason[:9]}"), hypernet=HVAE, score={**score, **own}, **given
            )
        )
