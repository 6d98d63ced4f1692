"""Recipes on a module of the user's own, of which only a part is generated."""

import sys

import torch
from safetensors.torch import load_file

from tests.recipes.small import loaded, save_data
from weightgen import training

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
