import torch
from torch import nn

from weightgen.hypernets import SharedWeights
from weightgen.storage.hub import load_part
from weightgen.weights import WeightSpace

SPACE = WeightSpace.of(nn.Linear(3, 2))


def test_every_condition_gets_the_same_weights():
    weights = torch.randn(SPACE.size)
    hypernet = SharedWeights(SPACE).init_weights(weights)
    out = hypernet(torch.randn(5, 7))
    assert out.shape == (5, SPACE.size) and torch.equal(out, weights.expand(5, -1))
    assert torch.equal(hypernet(torch.randn(1, 99)), weights[None])


def test_gradients_of_all_tasks_meet_in_one_vector():
    hypernet = SharedWeights(SPACE)
    slopes = torch.randn(4, SPACE.size)
    (hypernet(torch.zeros(4, 1)) * slopes).sum().backward()
    torch.testing.assert_close(hypernet.weights.grad, slopes.sum(dim=0))


def test_start_at_copies():
    weights = torch.ones(SPACE.size)
    hypernet = SharedWeights(SPACE).init_weights(weights)
    weights.zero_()
    assert (hypernet.weights == 1).all() and hypernet.weights.requires_grad


def test_save_and_load(tmp_path):
    hypernet = SharedWeights(SPACE).init_weights(torch.randn(SPACE.size))
    hypernet.save_pretrained(tmp_path)
    loaded = load_part(SharedWeights, tmp_path)
    assert loaded.space == SPACE and torch.equal(loaded.weights, hypernet.weights)
