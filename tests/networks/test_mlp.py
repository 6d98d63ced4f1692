import pytest
import torch
from torch.nn import functional

from weightgen import InputError, WeightSpace
from weightgen.networks import MLP


def test_equals_the_formula():
    network = MLP(4, [5, 6], 3, activation="tanh")
    x = torch.randn(2, 7, 4)
    first, second, last = network.layers[0], network.layers[2], network.layers[4]
    assert torch.equal(network(x), last(second(first(x).tanh()).tanh()))


def test_without_hidden_layers_it_is_linear():
    network = MLP(4, [], 3, bias=False)
    x = torch.randn(7, 4)
    assert torch.equal(network(x), functional.linear(x, network.layers[0].weight))
    assert WeightSpace.of(network).size == 12


def test_saving_keeps_the_outputs(tmp_path):
    network = MLP(4, [5], 3, activation="softplus")
    network.save_pretrained(tmp_path)
    x = torch.randn(7, 4)
    assert torch.equal(MLP.from_pretrained(tmp_path)(x), network(x))


def test_unknown_activations_are_refused():
    with pytest.raises(InputError, match=r"expected an activation of gelu, .* got 'reul'"):
        MLP(4, [5], 3, activation="reul")
