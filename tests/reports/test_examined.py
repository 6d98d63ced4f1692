"""Shares go to the right tokens, likeness is a mean correlation, and convolutions change places between episodes."""

import numpy as np
import pytest
import torch

from weightgen.reports.examined import accuracies, likeness_of, shares_of, variation_of
from weightgen.tasks import Examples


def test_shares_go_to_the_right_tokens():
    weights = torch.zeros(1, 2, 2, 5)  # 2 placeholders, 3 samples
    weights[:, :, 0] = torch.tensor([0.1, 0.0, 0.6, 0.3, 0.0])
    weights[:, :, 1] = torch.tensor([0.0, 0.1, 0.0, 0.3, 0.6])
    found = shares_of(weights, torch.tensor([[0, 1, 1]]), slots=2)
    assert found == pytest.approx({"own class": 0.75, "other samples": 0.15, "placeholders": 0.1}, abs=1e-4)


def test_likeness_is_the_mean_correlation_of_two_channels():
    kernel = torch.randn(2, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert likeness_of(kernel.repeat(1, 4, 1, 1, 1)) == pytest.approx(1, abs=1e-3)
    assert likeness_of(torch.cat([kernel, -kernel, 2 * kernel], dim=1)) == pytest.approx(-1 / 3, abs=1e-3)
    rows = torch.randn(1, 3, 9, generator=torch.Generator().manual_seed(1))
    wanted = (np.corrcoef(rows[0].numpy()).sum() - 3) / 6
    assert likeness_of(rows) == pytest.approx(wanted, abs=1e-3)


def test_convolutions_of_another_episode():
    """A network that is right with its own kernel, and wrong with that of the other episode."""

    class Network:
        def run_batch(self, params, inputs):
            return inputs * params["convs.0.weight"] * params["head.weight"]

    query = Examples(torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]), torch.tensor([[0], [1]]))
    params = {
        "convs.0.weight": torch.tensor([1.0, -1.0]).reshape(2, 1, 1),
        "head.weight": torch.ones(2, 1, 1),
    }
    assert accuracies(Network(), params, query).tolist() == [[1, 1], [0, 0]]


def test_variation_is_relative_to_the_mean():
    weights = torch.tensor([[3.0, 1.0], [3.0, -1.0]])
    assert variation_of(weights) == pytest.approx(1 / 3, abs=1e-3)
