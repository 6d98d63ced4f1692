"""Networks of which only some parameters are generated; the others are frozen and shared."""

import pytest
import torch
from torch import nn

from weightgen import HVAE, Examples, FunctionalNetwork, HNet, InputError, TaskBatch, WeightSpace, fine_tune
from weightgen.objectives import AdaptationLoss


class Own(nn.Module):
    """A user's network: a frozen body with running statistics and a buffer, and a head to generate."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.head = nn.Linear(8, 3)
        self.register_buffer("shift", torch.randn(4))

    def forward(self, inputs):
        return self.head(self.body(inputs + self.shift))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.Linear(3, 3, bias=False)
        self.write = nn.Linear(3, 3)
        self.write.weight = self.read.weight

    def forward(self, inputs):
        return self.write(self.read(inputs).tanh())


@pytest.fixture
def own():
    module = Own()
    module.body[1](torch.randn(50, 8) * 3)
    return module


def batch(tasks=6):
    inputs, labels = torch.randn(tasks, 10, 4), torch.randint(3, (tasks, 10))
    examples = Examples(inputs, labels)
    return TaskBatch(examples, examples, torch.randn(tasks, 5), {})


@pytest.mark.parametrize(
    ("include", "exclude"), [("head.*", ()), (["head.weight", "*.bias"], "body*"), ("*", ["body.*"])]
)
def test_patterns_choose_parameters(own, include, exclude):
    assert WeightSpace.of(own, include, exclude).shapes == (("head.weight", (3, 8)), ("head.bias", (3,)))


def test_only_the_generated_part_differs_between_tasks(own):
    network = FunctionalNetwork(own, "head.*")
    assert not own.body[1].training
    weights, inputs = torch.randn(2, 27), torch.randn(2, 10, 4)
    outputs = network(weights, inputs)
    for w, x, y in zip(weights, inputs, outputs, strict=True):
        filled = network.with_weights(w)
        torch.testing.assert_close(filled(x), y)
        torch.testing.assert_close(own.body(x + own.shift) @ w[:24].view(3, 8).T + w[24:], y)
        assert torch.equal(filled.body[0].weight, own.body[0].weight)
    assert torch.equal(network.initial_weights, torch.cat([own.head.weight.flatten(), own.head.bias]))


def test_hypernetworks_and_adaptation_run_on_it(own):
    network, tasks = FunctionalNetwork(own, "head.*"), batch()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    hypernet = HNet(network.space, 5, hidden_dims=(8,)).fit(tasks.embeds)
    hypernet.init_weights(network.initial_weights)
    loss = AdaptationLoss(network, hypernet)(tasks).loss
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in hypernet.parameters())
    adapted = fine_tune(network, hypernet, tasks, steps=30, lr=0.5)
    logits = network(adapted, tasks.query.inputs)
    after = nn.functional.cross_entropy(logits.flatten(0, 1), tasks.query.labels.flatten())
    assert adapted.shape == (6, 27) and after < loss
    assert HVAE(network.space, latent_dim=2, hidden_dims=(8,)).fit(adapted.detach())(
        torch.zeros(6, 2)
    ).shape == (6, 27)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())


def test_a_saved_space_says_what_is_generated(own):
    network = FunctionalNetwork(own, "head.*")
    space = WeightSpace.from_json(list(reversed(network.space.to_json())))
    again, weights = FunctionalNetwork.of_space(own, space), torch.randn(1, 27)
    turned = torch.cat([weights[:, 3:], weights[:, :3]], dim=1)
    x = torch.randn(1, 6, 4)
    torch.testing.assert_close(again(weights, x), network(turned, x))
    with pytest.raises(InputError, match="another network than Own: parameter 'tail' .* is not there"):
        FunctionalNetwork.of_space(own, WeightSpace((("tail", (3,)),)))
    with pytest.raises(InputError, match=r"'head.bias' should have shape \(4,\), but has shape \(3,\)"):
        FunctionalNetwork.of_space(own, WeightSpace((("head.bias", (4,)),)))


def test_tied_parameters_are_generated_together_or_not_at_all():
    network = FunctionalNetwork(Tied(), exclude="write.bias")
    weights, x = torch.randn(9), torch.randn(5, 3)
    assert network.space.shapes == (("read.weight", (3, 3)),)
    torch.testing.assert_close(network.with_weights(weights)(x), network.single(weights, x))
    assert FunctionalNetwork(Tied(), "write.bias").space.size == 3
    with pytest.raises(InputError, match="'read.weight' and 'write.weight' are one tied tensor"):
        FunctionalNetwork(Tied(), "write.*")


def test_what_cannot_be_generated_is_told(own):
    with pytest.raises(
        InputError, match="no parameter of Own fits 'haed.*': its parameters are body.0.weight"
    ):
        FunctionalNetwork(own, "haed.*")
    with pytest.raises(InputError, match="expected patterns of names"):
        FunctionalNetwork(Own(), include=[["body.*"]])
    with pytest.raises(InputError, match="leave no parameter of Own"):
        FunctionalNetwork(own, "head.*", "head.*")
    with pytest.raises(InputError, match="layer 'body.1' .BatchNorm1d. keeps running statistics"):
        FunctionalNetwork(own, "body.*")
    with pytest.raises(InputError, match="'weight' is not initialised"):
        FunctionalNetwork(nn.LazyLinear(3))
    counts = nn.Module()
    counts.table = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(InputError, match="'table' is torch.int8"):
        FunctionalNetwork(counts)
