import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize
from torch.testing import assert_close

from weightgen import FunctionalNetwork, InputError
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.networks import CLIPAdapter, TokenAdapter
from weightgen.networks.token_adapter import position_code

E, S, D, Q, H, N, C = 12, 3, 5, 2, 4, 6, 3


def tiny():
    return TokenAdapter(E + S * S * D, grid=S, token_dim=D, queries=Q, hidden_dim=H)


def inputs():
    return 3 * torch.randn(N, E + S * S * D), torch.randn(C, E)


def slowly(network, x, answers):
    """The formula of the docstring, one image and one query at a time."""
    code, logits = position_code(S), []
    for row in x:
        tokens = torch.cat([row[E:].view(S * S, D), code], dim=1)
        values = []
        for query in network.queries:
            scores = torch.stack([token @ query for token in tokens]) / math.sqrt(D + 11)
            attention = scores.exp() / scores.exp().sum()
            values.append(sum(a * token for a, token in zip(attention, tokens, strict=True)))
        pooled = torch.cat(values)
        hidden = torch.relu(network.hidden.weight @ pooled / math.sqrt(len(pooled)) + network.hidden.bias)
        adapted = (
            normalize(row[:E], dim=0) * math.sqrt(E)
            + network.out.weight @ hidden / math.sqrt(H)
            + network.out.bias
        )
        logits.append(100 * cosine_similarity(adapted[None], answers))
    return torch.stack(logits)


def test_the_size_on_scenes():
    assert FunctionalNetwork(TokenAdapter(128 + 64 * 64)).space.size == 14_156


def test_starts_exactly_at_zero_shot():
    x, answers = inputs()
    expected = 100 * normalize(x[:, :E], dim=-1) @ normalize(answers, dim=-1).mT
    assert_close(tiny()(x, answers), expected)


def test_the_formula():
    network, (x, answers) = tiny(), inputs()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    assert_close(network(x, answers), slowly(network, x, answers), rtol=1e-4, atol=1e-3)


def test_many_tasks_at_once_and_padding():
    function = FunctionalNetwork(tiny())
    weights = torch.randn(4, function.space.size, requires_grad=True)
    x, answers = torch.randn(4, N, E + S * S * D), torch.randn(4, C, E)
    x[1, 3:], answers[2, 2:] = 0, 0
    mask = answers.any(dim=-1)
    logits = function(weights, x, answers=answers, answer_mask=mask)
    one = function.single(weights[0], x[0], answers[0], mask[0])
    assert logits.shape == (4, N, C)
    assert_close(logits[0], one)
    assert (logits[2, :, 2] < -1e30).all()
    logits.softmax(dim=-1)[..., 0].sum().backward()
    assert weights.grad.isfinite().all() and weights.grad.ne(0).any(dim=0).float().mean() > 0.9


def test_position_code_tells_all_places_apart():
    code = position_code(8)
    assert code.shape == (64, 11) and code.abs().max() <= 1
    assert torch.cdist(code, code).add(torch.eye(64)).min() > 0.1
    assert code[:8, 1].unique().numel() == 1 and code[::8, 0].unique().numel() == 1  # row by row


def test_features_of_another_length_are_refused():
    with pytest.raises(InputError, match="use a CLIPAdapter"):
        TokenAdapter(E)
    x, answers = inputs()
    with pytest.raises(InputError, match="tokens=3"):
        tiny()(x[:, :E], answers)
    with pytest.raises(InputError, match="TokenAdapter"):
        CLIPAdapter(E, H)(x, answers)


def test_a_support_hnet_says_what_it_needs():
    with pytest.raises(InputError, match="CLIPAdapter"):
        SupportHNet.for_network(FunctionalNetwork(tiny()))
