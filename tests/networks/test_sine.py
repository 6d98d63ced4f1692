"""Pictures as networks."""

import torch

from weightgen import FunctionalNetwork
from weightgen.networks import SineNetwork
from weightgen.networks.sine import places


def test_the_formula():
    torch.manual_seed(0)
    network = SineNetwork(hidden_dim=5, depth=2, frequency=7.0)
    x = places(3)
    first, second = network.hidden
    expected = network.out((7 * second((7 * first(x)).sin())).sin())
    torch.testing.assert_close(network(x), expected)
    assert network(x).shape == (9, 3) and not network(x).std(dim=0).lt(1e-3).any()


def test_places_are_the_middles_of_pixels():
    assert torch.equal(places(2), torch.tensor([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]))
    assert places(64).abs().max() < 1


def test_many_pictures_are_fitted_at_once_and_saved(tmp_path):
    torch.manual_seed(0)
    network = FunctionalNetwork(SineNetwork(16))
    pictures = torch.stack([places(8).sum(dim=1).sign(), places(8)[:, 0]])[..., None].expand(-1, -1, 3)
    grid = places(8).expand(2, -1, -1)
    weights = network.initial_weights.expand(2, -1).clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(weights, grid) - pictures).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.02
    network.with_weights(weights[0].detach()).save_pretrained(tmp_path / "picture")
    again = SineNetwork.from_pretrained(tmp_path / "picture")
    torch.testing.assert_close(again(places(8)), network(weights, grid)[0].detach())
