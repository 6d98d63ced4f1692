import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize
from torch.testing import assert_close

from weightgen import FunctionalNetwork, InputError, WeightSpace, gradient_descent
from weightgen.networks import CLIPAdapter

E, H, N, C = 12, 8, 5, 3


def zero_shot(x, answers):
    return 100 * normalize(x, dim=-1) @ normalize(answers, dim=-1).mT


def by_formula(x, answers, w1, b1, w2, b2):
    """The paper's network on raw features, with the weights divided as the NTK parametrisation says."""
    hidden = torch.relu(x @ w1.T / math.sqrt(E) + b1)
    adapted = x + hidden @ w2.T / math.sqrt(H) + b2
    return 100 * cosine_similarity(adapted[:, None], answers[None], dim=-1)


def parts(network):
    return network.hidden.weight, network.hidden.bias, network.out.weight, network.out.bias


def test_the_papers_size():
    assert WeightSpace.of(CLIPAdapter(768)).size == 394_240


@pytest.mark.parametrize("ntk", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("normalize_inputs", [True, False])
def test_starts_at_zero_shot_whatever_the_scale(ntk, bias, normalize_inputs):
    network = CLIPAdapter(E, H, ntk=ntk, bias=bias, normalize_inputs=normalize_inputs)
    for scale in (0.1, 1, 30):
        x, answers = scale * torch.randn(N, E), 5 * torch.randn(C, E)
        assert_close(network(x, answers), zero_shot(x, answers))


def test_the_authors_network():
    network = CLIPAdapter(E, H, init="authors", normalize_inputs=False)
    x, answers = 10 * torch.randn(N, E), torch.randn(C, E)
    assert_close(network(x, answers), by_formula(x, answers, *parts(network)))
    assert not torch.allclose(network(x, answers), zero_shot(x, answers), atol=1)


def test_normalised_inputs_have_length_root_e():
    network = CLIPAdapter(E, H, init="authors")
    x, answers = 10 * torch.randn(N, E), torch.randn(C, E)
    expected = by_formula(normalize(x, dim=-1) * math.sqrt(E), answers, *parts(network))
    assert_close(network(x, answers), expected)
    assert_close(network(x / 7, answers), expected)


def test_ntk_moves_the_scale_from_the_start_into_the_forward_pass():
    torch.manual_seed(1)
    ntk = CLIPAdapter(E, H, init="authors")
    torch.manual_seed(1)
    plain = CLIPAdapter(E, H, init="authors", ntk=False)
    assert_close(plain.hidden.weight * math.sqrt(E), ntk.hidden.weight)
    x, answers = torch.randn(N, E), torch.randn(C, E)
    assert_close(plain(x, answers), ntk(x, answers))


def test_start_is_standard_normal():
    network = CLIPAdapter(256, 256, init="authors")
    for weight in (network.hidden.weight, network.out.weight):
        assert abs(weight.std().item() - 1) < 0.02
    assert 0.8 < network.out.bias.std() < 1.2
    assert 0.8 < network.hidden.bias.std() < 1.2


def test_masked_answers_are_never_chosen_and_change_nothing():
    network = CLIPAdapter(E, H, init="authors")
    x, answers = torch.randn(N, E), torch.randn(C, E)
    padded = torch.cat([answers, torch.zeros(2, E)])
    mask = torch.tensor([True] * C + [False] * 2)
    logits = network(x, padded, mask)
    assert_close(logits[:, :C], network(x, answers))
    assert_close(logits.softmax(-1)[:, C:], torch.zeros(N, 2), rtol=0, atol=0)
    assert logits.isfinite().all()


@pytest.mark.parametrize("init", ["zero_shot", "authors"])
def test_padding_leaves_gradients_of_both_orders_finite(init):
    network = CLIPAdapter(E, H, init=init)
    functional = FunctionalNetwork(network)
    space = functional.space
    x, labels = torch.randn(2, N, E), torch.randint(0, 2, (2, N))
    x[:, 3:], labels[:, 3:] = 0, -100
    answers = torch.randn(2, C, E)
    answers[:, 2] = 0
    context = {"answers": answers, "answer_mask": torch.tensor([[True, True, False]] * 2)}
    start = space.flatten(dict(network.named_parameters())).detach().repeat(2, 1).requires_grad_()

    def loss(w, one, label, extra):
        return cross_entropy(functional.single(w, one, **extra), label)

    adapted = gradient_descent(loss, start, x, labels, context, steps=2, lr=0.1)
    logits = functional(adapted, x, **context)
    gradient = torch.autograd.grad(cross_entropy(logits.flatten(0, 1), labels.flatten()), start)[0]
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_stay_finite(dtype):
    network = CLIPAdapter(E, H).to(dtype)
    x, answers = torch.randn(N, E, dtype=dtype), torch.randn(C, E, dtype=dtype)
    x[0] = 0
    logits = network(x, answers, torch.tensor([True, True, False]))
    assert logits.dtype == dtype
    assert logits.isfinite().all()


def test_batches_work_without_vmap_too():
    network = CLIPAdapter(E, H, init="authors")
    x, answers, mask = (
        torch.randn(2, N, E),
        torch.randn(2, C, E),
        torch.tensor([[True] * C, [True, True, False]]),
    )
    rows = [network(*one) for one in zip(x, answers, mask, strict=True)]
    assert_close(network(x, answers, mask), torch.stack(rows))


def test_saving_keeps_the_outputs(tmp_path):
    network = CLIPAdapter(E, H, ntk=False, logit_scale=10.0, init="authors", bias=False)
    network.save_pretrained(tmp_path)
    x, answers = torch.randn(N, E), torch.randn(C, E)
    assert torch.equal(CLIPAdapter.from_pretrained(tmp_path)(x, answers), network(x, answers))


def test_unknown_starts_are_refused():
    with pytest.raises(InputError, match="'zero_shot' or 'authors', got 'zero'"):
        CLIPAdapter(E, init="zero")
