"""Features of support images: the mean of a convolution that is not computed equals the mean of one that is."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from weightgen.hypernets import HyperTransformer
from weightgen.networks import ConvNet
from weightgen.nn import support_features
from weightgen.nn.support_features import ActivationFeatures, mean_of_conv
from weightgen.tasks import Examples


@pytest.mark.parametrize(
    ("side", "kernel", "stride"),
    [(13, 3, 1), (14, 3, 2), (7, 3, 2), (3, 3, 1), (1, 1, 1), (9, 5, 3), (10, 2, 2)],
)
def test_mean_before_the_convolution_equals_the_mean_after_it(side, kernel, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, kernel, stride)
    x = torch.randn(6, 5, side, side, requires_grad=True)
    wanted, found = conv(x).mean(dim=(2, 3)), mean_of_conv(x, conv)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    slope = torch.randn(6, 7)
    inputs = [x, conv.weight, conv.bias]
    pairs = zip(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(wanted, inputs, slope), strict=True
    )
    for new, old in pairs:
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5)


def plain(self, x):
    """The features as the paper describes them: every convolution, then its mean."""
    found = []
    for i, conv in enumerate(self.convs):
        x = conv(F.relu(x) if i else x)
        found.append(x.mean(dim=(2, 3)))
    return torch.cat(found, dim=1)


def test_a_hypertransformer_writes_the_same_weights(monkeypatch):
    torch.manual_seed(0)
    hypernet = HyperTransformer(ConvNet(4, 3, 14, depth=2), layers=2, activation_features=6)
    support = Examples(torch.randn(2, 6, 1, 14, 14), torch.arange(3).repeat(2, 2))
    fast = hypernet(support)
    monkeypatch.setattr(support_features.ActivationFeatures, "forward", plain)
    torch.testing.assert_close(fast, hypernet(support), rtol=1e-5, atol=1e-5)


def test_chain_ends_where_the_map_is_smaller_than_the_kernel():
    assert [ActivationFeatures(2, side, 4).size for side in (1, 2, 3, 5, 28)] == [4, 4, 4, 4, 8]
