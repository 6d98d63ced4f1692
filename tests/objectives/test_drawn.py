"""The difference of drawn pictures as a score of weights."""

import pytest
import torch

from weightgen import InputError
from weightgen.data.zoo import Zoo, save_zoo
from weightgen.networks import SineNetwork
from weightgen.networks.sine import places
from weightgen.objectives.drawn import DrawnDifference
from weightgen.weights import WeightSpace


@pytest.fixture
def zoo(tmp_path):
    torch.manual_seed(0)
    space = WeightSpace(tuple(sorted(WeightSpace.of(SineNetwork(4, 1)).shapes)))  # as an import orders them
    save_zoo(tmp_path / "zoo", space, torch.randn(1, 3, space.size))
    return Zoo.load(tmp_path / "zoo")


def test_it_is_zero_for_the_same_picture_and_the_formula_else(zoo):
    score = DrawnDifference(zoo, side=3, hidden_dim=4, depth=1)
    rows, tasks = zoo.rows()[:], torch.tensor([2, 0])
    torch.testing.assert_close(score(rows[[2, 0]], tasks), torch.zeros(2))
    weights = rows[[1, 1]].requires_grad_()
    found = score(weights, tasks)
    nets = [SineNetwork(4, 1) for _ in range(3)]
    for net, row in zip(nets, rows, strict=True):
        net.load_state_dict(zoo.space.state_dict(row))
    expected = [(nets[1](places(3)) - nets[task](places(3))).square().mean() for task in (2, 0)]
    torch.testing.assert_close(found, torch.stack(expected))
    found.sum().backward()
    assert weights.grad.abs().sum() > 0


def test_other_networks_are_refused(zoo):
    with pytest.raises(InputError, match="holds other networks than SineNetwork"):
        DrawnDifference(zoo, hidden_dim=5, depth=1)
