"""Statistics in batches are those of the plain formulas."""

import pytest
import torch
from torch.testing import assert_close

from weightgen.errors import InputError
from weightgen.hypernets import HVAE
from weightgen.nn import large
from weightgen.nn.standardizer import Standardizer
from weightgen.weights import WeightSpace


@pytest.fixture
def values():
    torch.manual_seed(0)
    return torch.randn(60, 5) @ torch.randn(5, 40) + 100 + 0.01 * torch.randn(60, 40)


@pytest.fixture
def in_batches(monkeypatch):
    monkeypatch.setattr(large, "LARGE", 10)
    monkeypatch.setattr(large, "BATCH", 7 * 40)


def test_mean_and_deviation(values, in_batches):
    found = Standardizer(40).fit(values)
    assert_close(found.mean, values.mean(dim=0))
    assert_close(found.std, values.std(dim=0, correction=0))
    values[59, 3] = torch.inf
    with pytest.raises(InputError, match="finite numbers"):
        Standardizer(40).fit(values)


def test_principal_components(values, in_batches):
    scaled = values - values.mean(dim=0)
    singular, directions = large.svd_in_batches(values, lambda rows: rows - values.mean(dim=0), 12)
    _, expected, right = torch.linalg.svd(scaled, full_matrices=False)
    assert_close(singular[:5], expected[:5])
    assert_close((directions[:, :5].T @ right[:5].T).abs(), torch.eye(5), atol=1e-3, rtol=0)


def test_an_autoencoder_of_large_values_begins_as_that_of_small_ones(values, monkeypatch):
    space = WeightSpace((("w", (40,)),))

    def decoded():
        hvae = HVAE(space, latent_dim=5, hidden_dims=(4,)).fit(values)
        return hvae(hvae.encode(values).mean)

    expected = decoded()
    monkeypatch.setattr(large, "LARGE", 10)
    monkeypatch.setattr(large, "BATCH", 7 * 40)
    assert_close(decoded(), expected, atol=1e-3, rtol=1e-3)
