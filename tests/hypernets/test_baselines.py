"""ProtoNet and MAML as hypernetworks: against slow formulas, and with the symmetries that a HyperTransformer has."""

import pytest
import torch
import torch.nn.functional as F

from weightgen import InputError
from weightgen.hypernets import MAML, ProtoNet
from weightgen.networks.convnet import ConvNet
from weightgen.tasks import PADDING_LABEL, UNLABELED, Examples

B, WAYS, SHOTS = 2, 3, 2
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}
MAKERS = {
    "prototypes": ProtoNet,
    "maml": lambda network: MAML(network, steps=2, lr=0.1),
    "maml, two rates": lambda network: MAML(network, steps=2, lr=0.1, head_lr=2.0),
    "first order": lambda network: MAML(network, steps=2, lr=0.1, first_order=True),
}


def make(kind):
    return MAKERS[kind](ConvNet(4, WAYS, image_size=14, depth=2))


def support_sets():
    labels = torch.arange(WAYS).repeat_interleave(SHOTS).expand(B, -1)
    return Examples(torch.randn(B, WAYS * SHOTS, 1, 14, 14), labels)


def query():
    return torch.randn(B, 7, 1, 14, 14)


def test_prototypes_are_the_negative_squared_distances():
    hypernet, support, asked = make("prototypes"), support_sets(), query()
    logits = hypernet.network.run_batch(hypernet.generate(support).params, asked)
    for i in range(B):
        network = hypernet.export(Examples(support.inputs[i], support.labels[i]))
        network.head = torch.nn.Identity()
        means = network(support.inputs[i]).reshape(WAYS, SHOTS, -1).mean(1)
        distances = -(network(asked[i])[:, None] - means).square().sum(2)
        torch.testing.assert_close(logits[i].log_softmax(1), distances.log_softmax(1), **TOLERANCE)


def test_maml_is_gradient_descent_on_the_support_set():
    hypernet, support = make("maml"), support_sets()
    for i in range(B):
        network = ConvNet(**hypernet.network.settings)
        network.load_state_dict({name.replace("/", "."): value for name, value in hypernet.learned.items()})
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(network(support.inputs[i]), support.labels[i]).backward()
            optimizer.step()
        exported = hypernet.export(Examples(support.inputs[i], support.labels[i]))
        for name, value in network.state_dict().items():
            torch.testing.assert_close(exported.state_dict()[name], value, **TOLERANCE)


def test_maml_differentiates_through_its_steps():
    """The slope of the query loss agrees with a difference quotient; the first-order one does not."""
    torch.set_default_dtype(torch.float64)
    try:
        slopes = {}
        for kind in ("maml", "first order"):
            torch.manual_seed(0)
            hypernet, support, asked = make(kind), support_sets(), query()
            bias = hypernet.learned["head/weight"]

            def loss(hypernet=hypernet, support=support, asked=asked):
                return hypernet.network.run_batch(hypernet.generate(support).params, asked).square().mean()

            slopes[kind] = torch.autograd.grad(loss(), bias)[0][0, 0].item()
            with torch.no_grad():
                bias[0, 0] += 1e-5
                high = loss().item()
                bias[0, 0] -= 2e-5
                quotient = (high - loss().item()) / 2e-5
        assert slopes["maml"] == pytest.approx(quotient, rel=1e-4)
        assert slopes["first order"] != pytest.approx(quotient, rel=1e-2)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_last_layer_may_take_larger_steps():
    network, support = ConvNet(4, WAYS, image_size=14, depth=2), support_sets()

    def moved(**rates):
        hypernet = MAML(network, steps=1, **rates)
        start = hypernet.shared_params(B)
        return {name: value - start[name] for name, value in hypernet.generate(support).params.items()}

    one, two = moved(lr=0.1), moved(lr=0.1, head_lr=2.0)
    for name, step in one.items():
        torch.testing.assert_close(two[name], step * (20 if name.startswith("head.") else 1), **TOLERANCE)


@pytest.mark.parametrize("kind", MAKERS)
def test_support_sets_are_sets_and_apart(kind):
    hypernet, support = make(kind), support_sets()
    weights = hypernet(support)
    assert weights.shape == (B, hypernet.space.size)
    order = torch.randperm(WAYS * SHOTS)
    shuffled = hypernet(Examples(support.inputs[:, order], support.labels[:, order]))
    torch.testing.assert_close(shuffled, weights, **TOLERANCE)
    alone = hypernet(Examples(support.inputs[1:], support.labels[1:]))
    torch.testing.assert_close(alone[0], weights[1], **TOLERANCE)


@pytest.mark.parametrize("kind", MAKERS)
def test_hidden_samples_are_absent_and_unlabelled_ones_give_no_class(kind):
    hypernet, support = make(kind), support_sets()
    inputs = torch.cat([support.inputs, torch.randn(B, 2, 1, 14, 14)], 1)

    def with_label(label):
        return hypernet(Examples(inputs, torch.cat([support.labels, torch.full((B, 2), label)], 1)))

    torch.testing.assert_close(with_label(PADDING_LABEL), hypernet(support), **TOLERANCE)
    assert torch.isfinite(with_label(UNLABELED)).all()


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("stored", [False, True])
def test_export_and_save(kind, stored, tmp_path):
    hypernet, support, asked = make(kind), support_sets(), query()
    with torch.no_grad():
        made = hypernet.generate(support, moments=stored)
        expected = hypernet.network.run_batch(made.params, asked, moments=made.moments or None)
    hypernet.save_pretrained(tmp_path)
    loaded = type(hypernet).from_pretrained(tmp_path)
    network = loaded.export(Examples(support.inputs[0], support.labels[0]), stored)
    torch.testing.assert_close(network(asked[0]), expected[0], **TOLERANCE)


@pytest.mark.parametrize("kind", MAKERS)
def test_every_parameter_learns(kind):
    hypernet = make(kind)
    hypernet.network.run_batch(hypernet.generate(support_sets()).params, query()).square().sum().backward()
    for name, parameter in hypernet.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", MAKERS)
def test_wrong_use(kind):
    support = support_sets()
    with pytest.raises(InputError, match="no labelled sample"):
        make(kind)(Examples(support.inputs, torch.full_like(support.labels, UNLABELED)))
    with pytest.raises(InputError, match="steps must be a whole number from 1"):
        MAML(ConvNet(4, WAYS), steps=0)
    with pytest.raises(InputError, match="head_lr must be a number from 0 up, got -1.0"):
        MAML(ConvNet(4, WAYS), head_lr=-1.0)
