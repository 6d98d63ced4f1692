import math

import pytest
import torch
from torch import nn

from weightgen.data.scenes.matching import MatchingLoss


class Eye(nn.Module):
    """A CLIP that passes its inputs through."""

    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.logit_bias = nn.Parameter(torch.tensor(-3.0))

    def encode_image(self, x, normalize):
        assert normalize
        return nn.functional.normalize(x, dim=-1)

    encode_text = encode_image


def test_loss_by_hand():
    torch.manual_seed(0)
    objective = MatchingLoss(Eye(), embed_dim=4, quarters=2, looks=(3, 5), reading_weight=0.7)
    pictures, texts, truth = torch.randn(3, 4), torch.randn(5, 4), torch.rand(3, 5) > 0.5
    looks = torch.tensor([[[0, 4], [-1, -1]], [[2, 0], [1, 1]], [[-1, -1], [0, 3]]])
    outcome = objective((pictures, texts, truth, looks))

    matching, reading = 0.0, 0.0
    for n in range(3):
        image = pictures[n] / pictures[n].norm()
        for m in range(5):
            match = torch.sigmoid(10 * image @ (texts[m] / texts[m].norm()) - 3)
            matching -= torch.log(match if truth[n, m] else 1 - match) / 3
        read = (objective.reader.weight @ (2 * image) + objective.reader.bias).view(2, 4 + 6)
        for quarter in range(2):
            for part, look in (
                (read[quarter, :4], looks[n, quarter, 0]),
                (read[quarter, 4:], looks[n, quarter, 1]),
            ):
                reading -= part.log_softmax(0)[look + 1] / (3 * 2)
    assert outcome.metrics["matching"].item() == pytest.approx(matching.item(), rel=1e-5)
    assert outcome.metrics["reading"].item() == pytest.approx(reading.item(), rel=1e-5)
    assert outcome.loss.item() == pytest.approx((matching + 0.7 * reading).item(), rel=1e-5)


def test_every_parameter_learns():
    objective = MatchingLoss(Eye(), embed_dim=4, quarters=2, looks=(3,), reading_weight=1.0)
    looks = torch.tensor([[[0], [-1]], [[2], [1]]])
    objective((torch.randn(2, 4), torch.randn(2, 4), torch.eye(2).bool(), looks)).loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.parameters())
