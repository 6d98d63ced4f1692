"""Networks that differ by a symmetry alone become the same; what they compute stays."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from weightgen.data.zoo.alignment import (
    align,
    balanced,
    find_symmetries,
    output_difference,
    product_difference,
)
from weightgen.networks import MLP
from weightgen.weights import FunctionalNetwork, WeightSpace


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3)
    )  # fmt: skip


def permuted(module):
    """The weights of the same function with other hidden units, and how to run them on inputs."""
    torch.manual_seed(1)
    layers = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for layer, after in zip(layers, layers[1:], strict=False):
            order = torch.randperm(len(layer.weight))
            layer.weight.copy_(layer.weight[order])
            layer.bias.copy_(layer.bias[order])
            reads = after.weight.unflatten(1, (len(order), -1))
            after.weight.copy_(reads[:, order].reshape(after.weight.shape))
    return FunctionalNetwork(module).initial_weights


@pytest.mark.parametrize(
    ("make", "inputs"),
    [(lambda: MLP(4, [16] * 11, 3), (7, 4)), (cnn, (7, 1, 4, 4)), (lambda: MLP(4, [8], 3), (7, 4))],
    ids=["mlp of twelve layers", "cnn", "mlp"],
)
def test_permuted_networks(make, inputs):
    torch.manual_seed(0)
    module = make()
    network = FunctionalNetwork(module)
    reference, data = network.initial_weights.clone(), torch.randn(inputs)
    other = permuted(module)
    assert not torch.allclose(other, reference, atol=1e-2)
    assert_close(network.single(other, data), network.single(reference, data))
    found = find_symmetries(network.space)
    assert len(found.chain) > 1 and not found.untouched
    assert torch.equal(align(network.space, other, reference), reference)
    # A network near to it is found, too; what it computes stays.
    noisy = other + 0.01 * torch.randn_like(other)
    near = align(network.space, noisy, reference)
    assert_close(network.single(near, data), network.single(noisy, data))
    gaps = [output_difference(lambda w: network.single(w, data), reference, w) for w in (noisy, near)]
    assert gaps[1] < 0.2 * gaps[0]


def test_lora_pairs():
    torch.manual_seed(0)
    names = ("x.lora_A.weight", "x.lora_B.weight")
    space = WeightSpace(((names[0], (2, 6)), (names[1], (5, 2)), ("bias", (5,))))
    a, b, bias = torch.randn(2, 6), torch.randn(5, 2), torch.randn(5)
    mix = torch.tensor([[2.0, 1.0], [-1.0, 0.5]])
    one, other = (
        space.flatten({names[0]: x, names[1]: y, "bias": bias})
        for x, y in ((a, b), (mix @ a, b @ mix.inverse()))
    )
    found = find_symmetries(space)
    assert found.pairs == [names] and found.untouched == ["bias"] and not found.chain
    first, second = (align(space, w, one) for w in (one, other))
    assert_close(first, second, atol=1e-4, rtol=1e-4)
    params = space.unflatten(second)
    assert_close(params[names[1]] @ params[names[0]], b @ a, atol=1e-4, rtol=1e-4)
    assert_close(
        params[names[0]] @ params[names[0]].T, params[names[1]].T @ params[names[1]], atol=1e-4, rtol=1e-4
    )
    assert torch.equal(params["bias"], bias)
    assert product_difference(space, one, other) > 0.05 > 1e-3 > product_difference(space, first, second)


def test_balanced_factors_of_a_start_without_product():
    a, b = balanced(torch.randn(2, 6), torch.zeros(5, 2))  # LoRA begins there
    assert not a.any() and not b.any()


@pytest.mark.parametrize(
    "shapes",
    [
        (("a.weight", (4, 3)), ("b.weight", (2, 5))),  # sizes that do not follow each other
        (("a.weight", (4, 3)), ("norm.weight", (4,)), ("z.weight", (2, 4))),  # a norm, which may have groups
        (("a.weight", (4, 3)), ("a.scale", (4,)), ("b.weight", (2, 4))),
        (("a.weight", (4, 3)),),
        (("l.lora_A.weight", (2, 3, 1, 1)), ("l.lora_B.weight", (4, 2, 1, 1))),
    ],
)
def test_what_is_left_alone(shapes):
    space = WeightSpace(shapes)
    found = find_symmetries(space)
    assert not found.pairs and not found.chain and found.untouched == [name for name, _ in shapes]
    weights = torch.randn(space.size)
    assert torch.equal(align(space, weights, torch.randn(space.size)), weights)
