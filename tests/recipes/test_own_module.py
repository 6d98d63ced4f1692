"""Recipes on a module of the user's own, of which only a part is generated."""

import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_clip
from weightgen import InputError, WeightPipeline, training
from weightgen.data.zoo import Zoo

OWN = """
from torch import nn
from weightgen.storage.hub import SavedModule

class Own(nn.Module, SavedModule):
    def __init__(self, embed_dim: int, width: int = 3):
        super().__init__()
        self.input_dim = embed_dim
        self.body = nn.Sequential(nn.Linear(embed_dim, width), nn.Tanh())
        self.head = nn.Linear(width, embed_dim)

    def forward(self, inputs, answers, answer_mask=None):
        return self.head(self.body(inputs)) @ answers.mT
"""


def test_recipes_generate_a_part_of_any_module(root, tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    dataset = save_data(tmp_path / "data")
    network = {"_component_": "own_network.Own", "width": 4}
    common = {"dataset": str(dataset), "trust_remote_code": True, "batch_size": 2}
    trainer, adapter = loaded(root, "train_hypernet"), loaded(root, "adapt_tasks")
    start, output = str(tmp_path / "start"), str(tmp_path / "adapted")
    kind = {"_component_": "weightgen.hypernets.HNet", "hidden_dims": [4]}
    trainer.main(
        trainer.Config(output=start, network=network, hypernet=kind, exclude=["body.*"], steps=2, **common)
    )
    adapter.main(adapter.Config(start=start, output=output, draws=2, steps=[3], lrs=[0.1], **common))
    adapted = training.AdaptedTasks.load(output, trust_remote_code=True)
    assert [name for name, _ in adapted.network.space.shapes] == ["head.weight", "head.bias"]
    assert adapted.weights.shape == (2, 2, 10) and adapted.weights.isfinite().all()
    body = {
        name: value
        for name, value in load_file(tmp_path / "start/network/model.safetensors").items()
        if "body" in name
    }
    again = adapted.network.module.state_dict()
    assert len(body) == 2 and all(torch.equal(value, again[name]) for name, value in body.items())
    assert not adapted.network.initial_weights.equal(adapted.weights[0, 0])
    sys.modules.pop("own_network")


TASKS = """
import torch
from torch import nn
from weightgen import Examples, TaskBatch
from weightgen.storage.hub import SavedModule

class Sides(torch.utils.data.Dataset):
    def __init__(self, split: str, number: int = 6):
        draw = torch.Generator().manual_seed(len(split))
        self.directions = torch.randn(number, 24, generator=draw)
        self.points = torch.randn(number, 12, 2, generator=draw)
        self.questions = [f"{split} {row}" for row in range(number)]

    def __len__(self):
        return len(self.directions)

    def __getitem__(self, row):
        points, direction = self.points[row], self.directions[row]
        half = Examples(points[:6], (points[:6] @ direction[:2] > 0).long()), Examples(points[6:], (points[6:] @ direction[:2] > 0).long())
        return TaskBatch(*half, direction, {})

class Net(nn.Linear, SavedModule):
    def __init__(self, width: int = 2):
        super().__init__(2, width)
"""


def test_recipes_take_any_tasks(root, tmp_path, monkeypatch):
    """Tasks of one's own go the whole way: a hypernetwork, adapted weights, HVAE, HyperLDM, and a pipeline that samples."""
    (tmp_path / "own_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny_clip(tmp_path / "clip")
    common = {
        "tasks": {"_component_": "own_tasks.Sides", "number": 8},
        "trust_remote_code": True,
        "batch_size": 4,
    }
    part = {"network": {"_component_": "own_tasks.Net"}, "steps": 3, **common}
    places = {name: str(tmp_path / name) for name in ("start", "adapted", "hvae", "pipeline")}
    recipe = loaded(root, "train_hypernet")
    recipe.main(recipe.Config(output=places["start"], **part))
    recipe = loaded(root, "adapt_tasks")
    recipe.main(
        recipe.Config(
            start=places["start"], output=places["adapted"], draws=1, steps=[20], lrs=[1.0], **common
        )
    )
    facts = training.read_facts(places["adapted"])
    assert facts["validation_accuracy"] > 0.8
    assert Zoo.load(places["adapted"]).tasks()[3]["text"] == "train 3"
    few = {"adapted": places["adapted"], "steps": 3, "function_weight": 1.0, **common}
    recipe = loaded(root, "train_hvae")
    kind = {"_component_": "weightgen.hypernets.HVAE", "latent_dim": 3, "hidden_dims": [8]}
    recipe.main(recipe.Config(output=places["hvae"], hypernet=kind, **few))
    recipe = loaded(root, "train_hyperldm")
    how = {
        "scheduler": {"_component_": "weightgen.priors.paper_schedule", "prediction_type": "sample"},
        "function_tasks": 4,
    }
    denoiser = {"_component_": "weightgen.priors.MLPDenoiser", "hidden_dims": [8]}
    recipe.main(recipe.Config(output=places["pipeline"], hvae=places["hvae"], text_encoder=str(tmp_path / "clip"),
                              denoiser=denoiser, sampling={"num_inference_steps": 2}, **how, **few))  # fmt: skip
    pipe = WeightPipeline.from_pretrained(places["pipeline"], trust_remote_code=True)
    assert set(pipe("what color is the star?", num_inference_steps=2).state_dict()) == {"weight", "bias"}
    sys.modules.pop("own_tasks")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dataset": "data"}, "expected one of dataset=..., a Meta-VQA folder, and tasks="),
        ({"tasks": None}, "expected one of dataset="),
        ({"trust_remote_code": False}, "must be the class of a tasks.*trust_remote_code=true"),
        ({"tasks": {"_component_": "own_tasks.Net"}}, "is not the class of a tasks"),
        ({"tasks": {"_component_": "own_tasks.Sides", "count": 3}}, "has no argument 'count'"),
        ({"tasks": {"_component_": "own_tasks.Sides", "number": 0}}, "at least one task, got none"),
    ],
)
def test_wrong_tasks_are_told(root, tmp_path, monkeypatch, change, reason):
    (tmp_path / "own_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    given = {
        "tasks": {"_component_": "own_tasks.Sides"},
        "network": {"_component_": "own_tasks.Net"},
        "trust_remote_code": True,
    }
    recipe = loaded(root, "train_hypernet")
    with pytest.raises(InputError, match=reason):
        recipe.main(recipe.Config(output=str(tmp_path / "out"), steps=2, **{**given, **change}))
    sys.modules.pop("own_tasks", None)
