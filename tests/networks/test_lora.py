"""Low-rank adapters as weights to generate."""

import pytest
import torch
from torch import nn

from weightgen import Examples, HNet, InputError, TaskBatch, fine_tune
from weightgen.networks import lora_target

peft = pytest.importorskip("peft")


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs).relu())


@pytest.fixture
def target():
    return lora_target(Own(), peft.LoraConfig(r=2, target_modules=["body.0", "head"]))


def test_the_space_holds_the_adapters_only(target):
    own = [name.removeprefix("base_model.model.") for name, _ in target.space.shapes]
    assert own == [f"{layer}.lora_{half}.default.weight" for layer in ("body.0", "head") for half in "AB"]
    assert target.space.size == 2 * (5 + 6) + 2 * (6 + 3)


def test_many_tasks_at_once_equal_the_loop_and_the_formula(target):
    weights, inputs = 0.3 * torch.randn(4, target.space.size), torch.randn(4, 7, 5)
    outputs = target(weights, inputs)
    base = target.module.get_base_model()
    for w, x, y in zip(weights, inputs, outputs, strict=True):
        torch.testing.assert_close(target.with_weights(w)(x), y, atol=1e-5, rtol=1e-4)
        first, second, third, fourth = target.space.unflatten(w).values()
        scale = 8 / 2  # peft's default α, by the rank
        hidden = base.body[2](
            base.body[1](base.body[0].base_layer(x) + scale * x @ first.T @ second.T)
        ).relu()
        expected = base.head.base_layer(hidden) + scale * hidden @ third.T @ fourth.T
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)


def test_it_starts_at_the_network_itself_and_learns(target):
    torch.manual_seed(1)
    inputs, labels = torch.randn(3, 20, 5), torch.randint(3, (3, 20))
    tasks = TaskBatch(Examples(inputs, labels), Examples(inputs, labels), torch.randn(3, 4), {})
    start = target.initial_weights.expand(3, -1)
    plain = target.module.get_base_model()
    with target.module.disable_adapter():
        torch.testing.assert_close(target(start, inputs)[0], plain(inputs[0]))

    def loss(weights):
        return nn.functional.cross_entropy(target(weights, inputs).flatten(0, 1), labels.flatten())

    hypernet = HNet(target.space, 4, hidden_dims=(8,)).fit(tasks.embeds).init_weights(start[0])
    assert loss(fine_tune(target, hypernet, tasks, steps=40, lr=0.3)) < loss(start) - 0.1


def test_wrong_configurations_are_told():
    with pytest.raises(InputError, match="expected a peft.LoraConfig"):
        lora_target(Own(), {"r": 2})
    with pytest.raises(InputError, match="peft refuses this LoraConfig: .*nothing"):
        lora_target(Own(), peft.LoraConfig(target_modules=["nothing"]))
    with pytest.raises(InputError, match="more than low-rank adapters"):
        lora_target(Own(), peft.LoraConfig(target_modules=["head"], bias="all"))
