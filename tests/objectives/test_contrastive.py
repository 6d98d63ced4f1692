import pytest
import torch

from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.objectives import ContrastiveLoss


def test_loss_by_hand():
    torch.manual_seed(0)
    encoder = HyperCLIP(weights=7, embed_dim=3, hidden_dims=(5,))
    weights, embeds = torch.randn(4, 7), torch.randn(4, 3)
    logits = 9 * encoder.similarity(weights, embeds)
    rows = -sum(logits[b].log_softmax(0)[b] for b in range(4)) / 4
    columns = -sum(logits[:, b].log_softmax(0)[b] for b in range(4)) / 4
    halved = ContrastiveLoss(encoder, logit_scale=9.0)((weights, embeds)).loss
    whole = ContrastiveLoss(encoder, logit_scale=9.0, halved=False)((weights, embeds)).loss
    assert halved.item() == pytest.approx((rows + columns).item() / 2, rel=1e-5)
    assert whole.item() == pytest.approx((rows + columns).item(), rel=1e-5)


def test_learns_to_find_the_question():
    torch.manual_seed(0)
    encoder = HyperCLIP(weights=16, embed_dim=8, hidden_dims=(32,))
    embeds, mixing = torch.randn(200, 8), torch.randn(8, 16)
    weights = embeds @ mixing + 0.1 * torch.randn(200, 16)
    objective, train, held = ContrastiveLoss(encoder, logit_scale=10.0), slice(0, 150), slice(150, 200)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        objective((weights[train], embeds[train])).loss.backward()
        optimizer.step()
    first = encoder.similarity(weights[held], embeds[held]).argmax(dim=1)
    assert (first == torch.arange(50)).float().mean() > 0.8  # chance is 0.02
