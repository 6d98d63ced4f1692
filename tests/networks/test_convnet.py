"""ConvNet: its shapes, B networks at once = one at a time, masked images = absent images."""

import pytest
import torch
from torch import nn

from weightgen import InputError
from weightgen.networks.convnet import ConvNet, batch_moments, shallow, side_by_side
from weightgen.weights import FunctionalNetwork

B, N = 3, 6


def networks(**settings):
    """B networks with weights of their own, and the same as stacked parameters."""
    made = []
    for _ in range(B):
        network = ConvNet(**settings)
        for parameter in network.parameters():
            nn.init.normal_(parameter)
        made.append(network)
    names = [name for name, _ in made[0].named_parameters()]
    return made, {name: torch.stack([m.get_parameter(name) for m in made]) for name in names}


SETTINGS = [
    {"channels": 4, "num_classes": 5},
    {"channels": 4, "num_classes": 5, "conv_bias": True, "leak": 0.01, "image_channels": 3, "image_size": 84},
    {"channels": 4, "num_classes": 5, "depth": 2, "kernel_size": 9, "stride": 4, "pool": 1},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_many_at_once_are_one_at_a_time(settings):
    made, params = networks(**settings)
    side, channels = made[0].image_size, made[0].image_channels
    images = torch.randn(B, N, channels, side, side)
    together = made[0].run_batch(params, images)
    alone = torch.stack([network(x) for network, x in zip(made, images, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_weight_space_runs_it_too():
    made, params = networks(channels=4, num_classes=5)
    network = FunctionalNetwork(made[0])
    images = torch.randn(B, N, 1, 28, 28)
    by_vmap = network(network.space.flatten(params), images)
    torch.testing.assert_close(made[0].run_batch(params, images), by_vmap, rtol=1e-4, atol=1e-4)


def test_absent_images_change_nothing():
    made, params = networks(channels=4, num_classes=5)
    images = torch.randn(B, N, 1, 28, 28)
    present = torch.ones(B, N, dtype=torch.bool)
    present[:, 4:] = False
    masked = made[0].run_batch(params, images, present)[:, :4]
    torch.testing.assert_close(masked, made[0].run_batch(params, images[:, :4]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(masked, made[0].run_batch(params, images)[:, :4], atol=1e-2)


def test_moments_are_mean_and_biased_variance():
    maps = torch.randn(B, N, 4, 3, 3)
    present = torch.ones(B, N, dtype=torch.bool)
    for mask, kept in ((None, N), (present & (torch.arange(N) < 5), 5)):
        mean, var = batch_moments(side_by_side(maps), B, mask)
        torch.testing.assert_close(mean, maps[:, :kept].mean((1, 3, 4)))
        torch.testing.assert_close(var, maps[:, :kept].var((1, 3, 4), correction=0))


def test_stored_statistics_classify_each_image_by_itself():
    made, params = networks(channels=4, num_classes=5)
    images = torch.randn(1, N, 1, 28, 28)
    first = {name: value[:1] for name, value in params.items()}
    x, moments = side_by_side(images), []
    for i in range(4):
        x, found = made[0].layer(i, x, first, torch.ones(1, N, dtype=torch.bool))
        moments.append(found)
    network = ConvNet(**(made[0].settings | {"stored_statistics": True})).eval()
    network.load_state_dict({name: value[0] for name, value in first.items()} | network.statistics(moments))
    query = torch.randn(8, 1, 28, 28)
    together = network(query)
    one_by_one = torch.cat([network(q[None]) for q in query])
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)
    batched = made[0].run_batch(first, query[None], moments=moments)[0]
    torch.testing.assert_close(together, batched, rtol=1e-4, atol=1e-4)


def test_sizes():
    assert ConvNet(8).sides == [28, 14, 7, 3, 1]
    assert ConvNet(8, image_size=84, image_channels=3).flat_size == 25 * 8
    assert shallow(16).sides == [28, 7, 2]
    assert shallow(16)(torch.randn(4, 1, 28, 28)).shape == (4, 20)
    assert shallow(16, 5, 84, 3)(torch.randn(4, 3, 84, 84)).shape == (4, 5)


def test_one_image_alone_has_no_batch_statistics():
    image = torch.randn(1, 1, 28, 28)
    with pytest.raises(InputError, match="stored_statistics=True"):
        ConvNet(4).eval()(image)
    assert ConvNet(4, depth=3).eval()(image).shape == (1, 20)  # a map of 3 × 3 has some
    assert ConvNet(4, stored_statistics=True).eval()(image).shape == (1, 20)


def test_save_and_load(tmp_path):
    network = ConvNet(4, 5, conv_bias=True)
    network.save_pretrained(tmp_path)
    images = torch.randn(N, 1, 28, 28)
    assert torch.equal(ConvNet.from_pretrained(tmp_path).train()(images), network.train()(images))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 8}, "shrink to nothing in layer 4"),
        ({"kernel_size": 4}, "odd kernel_size"),
        ({"channels": 0}, "channels must be a whole number from 1 to"),
        ({"depth": 10**9}, "depth must be a whole number from 1 to 1,000"),
        ({"leak": float("nan")}, "leak must be a number from 0 up, got nan"),
    ],
)
def test_wrong_use(settings, message):
    with pytest.raises(InputError, match=message):
        ConvNet(**settings)
