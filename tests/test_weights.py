import json
from dataclasses import asdict

import pytest
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn
from torch.func import vmap

from weightgen import FunctionalNetwork, InputError, WeightSpace


class Scored(nn.Module):
    """Uses a tensor of the context and has parameters of several ranks."""

    def __init__(self):
        super().__init__()
        self.z_first = nn.Linear(5, 4)
        self.a_second = nn.Conv1d(1, 2, 3)
        self.scale = nn.Parameter(torch.randn(()))

    def forward(self, inputs, answers):
        hidden = self.a_second(self.z_first(inputs).unsqueeze(-2)).flatten(-2)
        return self.scale * hidden @ answers.mT


@pytest.fixture
def module():
    return Scored()


@pytest.fixture
def space(module):
    return WeightSpace.of(module)


def test_order_and_size(module, space):
    assert [name for name, _ in space.shapes] == [name for name, _ in module.named_parameters()]
    assert space.size == sum(p.numel() for p in module.parameters()) == 33


@pytest.mark.parametrize("lead", [(), (7,), (2, 3)])
def test_unflatten_inverts_flatten(space, lead):
    weights = torch.randn(*lead, space.size)
    params = space.unflatten(weights)
    for name, shape in space.shapes:
        assert params[name].shape == (*lead, *shape)
    assert torch.equal(space.flatten(params), weights)


def test_the_order_of_the_dictionary_does_not_matter(module, space):
    params = dict(module.named_parameters())
    backwards = dict(reversed(params.items()))
    assert torch.equal(space.flatten(params), space.flatten(backwards))


def test_one_network_equals_the_module(module, space):
    x, answers = torch.randn(6, 5), torch.randn(3, 4)
    weights = space.flatten(dict(module.named_parameters()))
    network = FunctionalNetwork(module)
    assert torch.equal(network.initial_weights, weights) and not network.initial_weights.requires_grad
    assert torch.equal(network.single(weights, x, answers=answers), module(x, answers))


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_a_batch_equals_a_loop(module, space, chunk_size):
    network = FunctionalNetwork(module)
    weights, x, answers = torch.randn(3, space.size), torch.randn(3, 6, 5), torch.randn(3, 2, 4)
    batched = network(weights, x, chunk_size, answers=answers)
    rows = [network.single(w, one, answers=a) for w, one, a in zip(weights, x, answers, strict=True)]
    torch.testing.assert_close(batched, torch.stack(rows))


def test_several_networks_per_task(module, space):
    network = FunctionalNetwork(module)
    weights, x, answers = torch.randn(3, 4, space.size), torch.randn(3, 6, 5), torch.randn(3, 2, 4)
    logits = network(weights, x, answers=answers)
    assert logits.shape == (3, 4, 6, 2)
    single = network(weights[:, 1], x, answers=answers)
    torch.testing.assert_close(logits[:, 1], single)


def test_gradients_reach_the_weights_and_not_the_module(module, space):
    weights = torch.randn(2, space.size, requires_grad=True)
    network = FunctionalNetwork(module)
    network(weights, torch.randn(2, 3, 5), answers=torch.randn(2, 2, 4)).sum().backward()
    assert weights.grad.isfinite().all()
    assert (weights.grad != 0).all()
    assert all(p.grad is None and not p.requires_grad for p in module.parameters())


def test_json_round_trip_keeps_the_order(space):
    assert WeightSpace.from_json(json.loads(json.dumps(space.to_json(), sort_keys=True))) == space
    assert WeightSpace(**json.loads(json.dumps(asdict(space), sort_keys=True))) == space
    with pytest.raises(InputError, match="pairs"):
        WeightSpace.from_json({"weight": 3})


class Owner(nn.Module, PyTorchModelHubMixin):
    def __init__(self, space: WeightSpace):
        super().__init__()
        self.space = space
        self.weights = nn.Parameter(torch.zeros(space.size))


def test_saving_a_component_keeps_the_order(space, tmp_path):
    Owner(space).save_pretrained(tmp_path)
    assert Owner.from_pretrained(tmp_path).space == space


def test_with_weights_fills_a_copy(module, space):
    before = space.flatten(dict(module.named_parameters())).clone()
    weights = torch.randn(space.size)
    filled = FunctionalNetwork(module).with_weights(weights)
    assert torch.equal(space.flatten(dict(filled.named_parameters())), weights)
    assert torch.equal(space.flatten(dict(module.named_parameters())), before)
    weights.zero_()
    assert not torch.equal(space.flatten(dict(filled.named_parameters())), weights)
    assert filled.load_state_dict(space.state_dict(weights)).missing_keys == []


def test_tied_parameters_count_once():
    tied = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    network = FunctionalNetwork(tied)
    assert network.space.size == 9
    weights, x = torch.randn(9), torch.randn(2, 3)
    torch.testing.assert_close(network.with_weights(weights)(x), network.single(weights, x))


def test_running_statistics_are_refused():
    with pytest.raises(InputError, match="'1' .*track_running_stats=False"):
        WeightSpace.of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
    functional = FunctionalNetwork(network)
    weights = torch.randn(3, functional.space.size)
    assert functional(weights, torch.randn(3, 4, 2)).shape == (3, 4, 2)


def test_what_does_not_fit_is_named(module, space):
    with pytest.raises(InputError, match="no parameters"):
        WeightSpace.of(nn.ReLU())
    with pytest.raises(InputError, match=r"\(\*, 33\), got \(2, 32\)"):
        space.unflatten(torch.zeros(2, 32))
    params = dict(module.named_parameters())
    with pytest.raises(InputError, match="'scale'"):
        space.flatten({name: value for name, value in params.items() if name != "scale"})
    with pytest.raises(InputError, match="'z_first.bias' needs shape"):
        space.flatten(params | {"z_first.bias": torch.zeros(5)})


def test_dropout_differs_between_tasks():
    network = FunctionalNetwork(nn.Sequential(nn.Linear(50, 50), nn.Dropout()))
    weights = torch.randn(network.space.size).expand(2, -1)
    first, second = network(weights, torch.ones(2, 1, 50))
    assert not torch.equal(first, second)


def test_works_inside_another_vmap(module, space):
    weights, x, answers = torch.randn(2, 3, space.size), torch.randn(3, 6, 5), torch.randn(3, 2, 4)
    network = FunctionalNetwork(module)
    outer = vmap(lambda w: network(w, x, answers=answers))(weights)
    torch.testing.assert_close(outer[1], network(weights[1], x, answers=answers))


def test_a_functional_network_is_hidden_from_the_module_that_holds_it(module):
    owner = nn.Module()
    owner.network = FunctionalNetwork(module)
    assert not list(owner.parameters()) and not owner.state_dict()
    assert repr(owner.network) == "FunctionalNetwork(Scored, P=33)"
    assert owner.network.to("cpu") is owner.network
