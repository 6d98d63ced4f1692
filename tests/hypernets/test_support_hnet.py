"""SupportHNet: gradient descent before training, the symmetries of a set, and wrong use in one line each."""

import pytest
import torch
from torch.testing import assert_close

from weightgen import CLIPAdapter, Examples, FunctionalNetwork, InputError, WeightSpace
from weightgen.hypernets import SupportHNet
from weightgen.metrics import task_loss
from weightgen.networks import MLP

B, N, C, E, H = 3, 7, 4, 12, 5
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def network(**options):
    return FunctionalNetwork(CLIPAdapter(E, H, **{"init": "authors", "logit_scale": 10.0} | options))


def make(**options):
    """A hypernetwork all of whose parameters matter, as after training."""
    hypernet = SupportHNet.for_network(network(), dim=8, heads=2, rounds=3, step=0.3, **options).eval()
    with torch.no_grad():
        for parameter in hypernet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return hypernet.init_weights(torch.randn(hypernet.space.size))


def support_sets():
    """Ragged ones: the second has three examples, and the first three answers."""
    labels = torch.randint(3, (B, N))
    labels[1, 3:] = -100
    answers = torch.randn(B, C, E)
    answers[0, 3:] = 0
    return Examples(torch.randn(B, N, E), labels), answers


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("writes", ["all", "last"])
def test_an_untrained_pass_is_gradient_descent(writes, normalize):
    net = network(normalize_inputs=normalize)
    rounds, step = 4, 0.7
    support, answers = support_sets()
    hypernet = SupportHNet.for_network(net, rounds=rounds, step=step, sharpness=1.0, writes=writes)
    space = hypernet.space
    start = torch.randn(space.size)
    rates = space.flatten({
        name: torch.full(shape, step * {"hidden.bias": 1 / E, "out.bias": 1 / H}.get(name, 1.0))
        * (writes == "all" or name.startswith("out"))
        for name, shape in space.shapes
    })  # fmt: skip
    point = start.expand(B, -1)
    for _ in range(rounds):
        point = point.detach().requires_grad_()
        context = {"answers": answers, "answer_mask": answers.any(dim=-1)}
        logits = net(point, support.inputs, **context)
        point = point - rates * torch.autograd.grad(task_loss(logits, support.labels).sum(), point)[0]
    assert_close(hypernet.init_weights(start)(support, answers), point.detach(), **CLOSE)


@pytest.mark.parametrize("writes", ["all", "last"])
def test_without_steps_it_starts_at_the_given_weights(writes):
    hypernet = SupportHNet.for_network(network(), step=0.0, writes=writes)
    start = torch.randn(hypernet.space.size)
    assert_close(hypernet.init_weights(start)(*support_sets()), start.expand(B, -1))


@pytest.mark.parametrize("writes", ["all", "last"])
def test_the_order_of_examples_and_of_answers_does_not_matter(writes):
    hypernet, (support, answers) = make(writes=writes), support_sets()
    order, turn = torch.randperm(N), torch.tensor([2, 0, 1, 3])
    labels = torch.where(support.labels >= 0, turn.argsort()[support.labels.clamp_min(0)], -100)
    other = Examples(support.inputs[:, order], labels[:, order])
    assert_close(hypernet(other, answers[:, turn]), hypernet(support, answers), **CLOSE)


@pytest.mark.parametrize("writes", ["all", "last"])
def test_each_support_set_counts_alone_and_padding_not_at_all(writes):
    hypernet, (support, answers) = make(writes=writes), support_sets()
    together = hypernet(support, answers)
    for i, (examples, choices) in enumerate([(N, 3), (3, C), (N, C)]):
        alone = Examples(support.inputs[i : i + 1, :examples], support.labels[i : i + 1, :examples])
        assert_close(hypernet(alone, answers[i : i + 1, :choices])[0], together[i], **CLOSE)
    assert (together[0] - together[1]).norm() > 0.1
    changed = support.inputs.clone()
    changed[1, 3:] = 1e3
    assert_close(hypernet(Examples(changed, support.labels), answers), together, **CLOSE)


def test_last_layer_only():
    hypernet, (support, answers) = make(writes="last"), support_sets()
    parts = hypernet.space.unflatten(hypernet(support, answers) - hypernet.base)
    assert not parts["hidden.weight"].abs().max() > 1e-6 and not parts["hidden.bias"].abs().max() > 1e-6
    assert parts["out.weight"].abs().max() > 0.1 and parts["out.bias"].abs().max() > 1e-3


@pytest.mark.parametrize("writes", ["all", "last"])
def test_every_parameter_learns(writes):
    hypernet, (support, answers) = make(writes=writes, input_noise=0.1).train(), support_sets()
    weights = hypernet(support, answers)
    (weights * torch.randn_like(weights)).sum().backward()
    for name, parameter in hypernet.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0 or "key.bias" in name, (
            name
        )  # a shift of all keys changes nothing


def test_noise_is_drawn_in_training_only():
    hypernet, case = make(input_noise=0.1), support_sets()
    assert torch.equal(hypernet(*case), hypernet(*case))
    assert not torch.allclose(hypernet.train()(*case), hypernet(*case), atol=1e-3)


def test_support_embeddings_are_principal_components():
    hypernet = make(embed_dim=2)
    plane = torch.randn(2, hypernet.space.size)
    weights = torch.randn(50, 2) @ plane + 3.0
    embeds = hypernet.fit(weights).embed(weights)
    assert_close(embeds.mean(0), torch.zeros(2), atol=1e-2, rtol=0)
    assert_close(torch.cdist(embeds, embeds), torch.cdist(weights, weights), atol=1e-1, rtol=1e-2)
    few = hypernet.fit(weights[:1]).embed(weights)  # fewer support sets than axes
    assert few.shape == (50, 2) and few.isfinite().all()


@pytest.mark.parametrize("writes", ["all", "last"])
def test_save_and_load(writes, tmp_path):
    hypernet, case = make(writes=writes).fit(torch.randn(9, 2 * E * H + E + H)), support_sets()
    hypernet.save_pretrained(tmp_path)
    loaded = SupportHNet.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(*case), hypernet(*case))
    assert torch.equal(loaded.encode(*case), hypernet.encode(*case))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"writes": "first"}, "'all' or 'last', got 'first'"),
        ({"rounds": 0}, "rounds must be a whole number from 1 to 1,000, got 0"),
        ({"heads": 0}, "heads must be a whole number from 1"),
        ({"sharpness": 0}, "sharpness must be above 0, got 0"),
        ({"logit_scale": 50}, "got 'logit_scale'"),
        ({"round": 3}, "got 'round'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        SupportHNet.for_network(network(), **options)


def test_an_embedding_without_axes_is_refused():
    with pytest.raises(InputError, match="no axes yet"):
        make().encode(*support_sets())


def test_wrong_networks():
    with pytest.raises(InputError, match="layers") as caught:
        SupportHNet(WeightSpace.of(MLP(3, [4], 2)))
    assert "\n" not in str(caught.value)
    for other in (FunctionalNetwork(MLP(3, [4], 2)), network(ntk=False)):
        with pytest.raises(InputError, match="CLIPAdapter with ntk"):
            SupportHNet.for_network(other)
    with pytest.raises(InputError, match="CLIPAdapter with biases"):
        SupportHNet.for_network(network(bias=False))


def put(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


def same(tensor):
    return tensor


@pytest.mark.parametrize(
    ("inputs", "labels", "answers", "message"),
    [
        (lambda x: x[..., 1:], same, same, r"embeddings \(B, N, 12\).*\(3, 7, 11\)"),
        (same, lambda x: x[:, 1:], same, r"with labels \(B, N\), got \(3, 7, 12\) with \(3, 6\)"),
        (same, same, lambda x: x[:2], r"answers \(3, C, 12\), got \(2, 4, 12\)"),
        (put((0, 2, 1), float("nan")), same, same, "NaN or infinite"),
        (same, same, put((1, 0, 0), float("inf")), "NaN or infinite"),
        (same, put(2, -100), same, "support set 2 has no labelled example"),
        (same, put((0, 1), 3), same, "labels from 0 to 2 for the answers of support set 0, got 3"),
        (same, put((2, 4), -1), same, "labels from 0 to 3 for the answers of support set 2, got -1"),
    ],
)
def test_wrong_support_sets(inputs, labels, answers, message):
    support, choices = support_sets()
    with pytest.raises(InputError, match=message) as caught:
        make()(Examples(inputs(support.inputs), labels(support.labels)), answers(choices))
    assert "\n" not in str(caught.value)
