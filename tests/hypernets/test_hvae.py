import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from weightgen import InputError
from weightgen.hypernets import HVAE
from weightgen.nn.mlp import kaiming_mlp
from weightgen.storage.hub import load_part
from weightgen.weights import WeightSpace

SPACE = WeightSpace.of(nn.Linear(9, 3))
P, Z = SPACE.size, 4


def low_rank(rows, rank=Z, noise=0.0):
    """Weights that lie on a plane of `rank` directions, far from the origin, plus noise."""
    draw = torch.Generator().manual_seed(5)
    directions = torch.randn(rank, P, generator=draw) * torch.arange(1, rank + 1)[:, None]
    middle = 10 * torch.randn(P, generator=draw)
    return middle + torch.randn(rows, rank) @ directions + noise * torch.randn(rows, P)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_shapes(linear, lead):
    hvae = HVAE(SPACE, Z, (16, 8), linear).fit(low_rank(40))
    posterior = hvae.encode(torch.randn(*lead, P))
    assert posterior.mean.shape == posterior.stddev.shape == (*lead, Z)
    assert hvae(torch.randn(*lead, Z)).shape == (*lead, P)


def test_on_a_plane_of_z_directions_it_starts_without_error():
    weights, unseen = low_rank(200), low_rank(50)
    hvae = HVAE(SPACE, Z, (16,)).fit(weights)
    for each in (weights, unseen):
        assert_close(hvae(hvae.encode(each).mean), each, atol=1e-3, rtol=1e-4)


def test_it_starts_at_the_principal_components():
    weights = low_rank(300, rank=9, noise=0.1)
    hvae = HVAE(SPACE, Z, (16,)).fit(weights)
    error = (hvae(hvae.encode(weights).mean) - weights).square().sum()
    singular = torch.linalg.svdvals(weights.double() - weights.double().mean(dim=0))
    best = singular[Z:].square().sum()  # Eckart-Young: no plane of Z directions has less
    assert error.item() == pytest.approx(best.item(), rel=0.01)


def test_latents_start_with_mean_zero_variance_one_and_no_correlation():
    weights = low_rank(300, rank=9)
    means = HVAE(SPACE, Z, (16,)).fit(weights).encode(weights).mean
    assert_close(means.mean(dim=0), torch.zeros(Z), atol=1e-4, rtol=0)
    assert_close(means.T.cov(correction=0), torch.eye(Z), atol=0.02, rtol=0)


def test_weights_with_fewer_directions_than_latents():
    weights = low_rank(40, rank=2)
    hvae = HVAE(SPACE, Z, (16,)).fit(weights)
    assert_close(hvae(hvae.encode(weights).mean), weights, atol=1e-3, rtol=1e-4)
    still = HVAE(SPACE, Z, (16,)).fit(torch.ones(9, P))
    assert_close(still(still.encode(torch.ones(9, P)).mean), torch.ones(9, P))


def test_too_few_weights_for_the_latents():
    with pytest.raises(InputError, match="4 principal components need more than 4"):
        HVAE(SPACE, Z).fit(torch.randn(4, P))
    with pytest.raises(InputError, match="smaller latent_dim"):
        HVAE(SPACE, P + 1).fit(torch.randn(99, P))
    HVAE(SPACE, P, (16,)).fit(torch.randn(99, P))


def test_the_spread_of_the_posterior_starts_at_the_released_codes():
    hvae = HVAE(SPACE, Z, (16,)).fit(low_rank(40))
    stddev = hvae.encode(low_rank(10)).stddev
    assert_close(stddev, torch.full_like(stddev, math.exp(-0.5)))


def test_the_kl_divergence_has_the_closed_form():
    hvae = HVAE(SPACE, Z, (16,), linear=False).fit(low_rank(40))
    posterior = hvae.encode(low_rank(10))
    mean, variance = posterior.mean, posterior.variance
    assert variance.std() > 0
    expected = 0.5 * (mean.square() + variance - variance.log() - 1)
    assert_close(kl_divergence(posterior, Normal(0.0, 1.0)), expected)
    assert (expected > 0).all()


def test_it_can_do_without_linear_paths():
    hvae = HVAE(SPACE, Z, (16, 8), linear=False).fit(low_rank(40))
    assert hvae.encoder_path is None and hvae.decoder_path is None
    assert [layer.out_features for layer in hvae.encoder if isinstance(layer, nn.Linear)] == [16, 8, 2 * Z]
    assert [layer.out_features for layer in hvae.decoder if isinstance(layer, nn.Linear)] == [8, 16, P]
    latents = torch.randn(3, Z)
    assert_close(hvae(latents), hvae.decoder(latents) * hvae.standardizer.std + hvae.standardizer.mean)


@pytest.mark.parametrize("linear", [True, False])
def test_every_parameter_learns(linear):
    hvae = HVAE(SPACE, Z, (16,), linear).fit(low_rank(40))
    optimizer = torch.optim.SGD(hvae.parameters(), lr=1e-3)
    for _ in range(2):  # what stands behind a last layer of zeros learns from the second step on
        optimizer.zero_grad()
        posterior = hvae.encode(low_rank(8))
        loss = hvae.standardizer(hvae(posterior.rsample())).sin().sum()
        (loss + kl_divergence(posterior, Normal(0.0, 1.0)).sum()).backward()
        optimizer.step()
    for name, parameter in hvae.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_statistics_are_buffers_with_one_scale():
    weights = low_rank(40)
    hvae = HVAE(SPACE, Z, (16,)).fit(weights)
    state = hvae.state_dict()
    assert_close(state["standardizer.mean"], weights.mean(dim=0))
    assert_close(state["standardizer.std"], weights.std(dim=0, correction=0).mean().expand(P))
    assert not any(name.startswith("standardizer") for name, _ in hvae.named_parameters())


def test_refuses_to_work_without_statistics():
    hvae = HVAE(SPACE, Z, (16,))
    for call in (hvae, lambda z: hvae.encode(torch.randn(2, P))):
        with pytest.raises(InputError, match="no statistics"):
            call(torch.randn(2, Z))


@pytest.mark.parametrize("linear", [True, False])
def test_save_and_load(tmp_path, linear):
    weights = low_rank(40)
    hvae = HVAE(SPACE, Z, (16, 8), linear).fit(weights).eval()
    hvae.save_pretrained(tmp_path)
    loaded = load_part(HVAE, tmp_path)
    latents = torch.randn(5, Z)
    assert torch.equal(loaded(latents), hvae(latents))
    one, other = loaded.encode(weights), hvae.encode(weights)
    assert torch.equal(one.mean, other.mean) and torch.equal(one.stddev, other.stddev)
    assert loaded.space == SPACE and loaded.latent_dim == Z and not loaded.training


def test_the_papers_size():
    size = 394_240
    with torch.device("meta"):
        parts = kaiming_mlp([size, 512, 256, 64]), kaiming_mlp([32, 256, 512, size])
    # 202.0 and 202.4 million, table 3
    assert [round(sum(p.numel() for p in part.parameters()) / 1e6, 1) for part in parts] == [202.0, 202.4]
