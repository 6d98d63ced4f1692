"""Adaptation: its gradients are those of a plain Python loop over tasks, and padding changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from weightgen.adaptation import adapt
from weightgen.hypernets import HNet, SharedWeights
from weightgen.metrics import task_loss
from weightgen.networks.mlp import MLP
from weightgen.objectives import AdaptationLoss
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch, collate
from weightgen.weights import FunctionalNetwork

D, C, E = 3, 4, 5
SIZES = [(7, 4), (3, 9), (5, 5)]
EXACT = {"rtol": 1e-9, "atol": 1e-9}


def draw(support, query):
    parts = (Examples(torch.randn(n, D).double(), torch.randint(C, (n,))) for n in (support, query))
    return TaskBatch(*parts, embeds=torch.randn(E).double(), context={})


@pytest.fixture
def tasks():
    return [draw(*size) for size in SIZES]


@pytest.fixture
def network():
    return FunctionalNetwork(
        MLP(D, [6], C, activation="tanh").double()
    )  # smooth, so that second derivatives say something


def conditional(network):
    hypernet = HNet(network.space, E, hidden_dims=(8,)).double()
    hypernet.fit(torch.randn(20, E).double())
    return hypernet


def shared(network):
    space = network.space
    return SharedWeights(space).double().init_weights(torch.randn(space.size).double())


def labelled(examples, task):
    """The examples of one task of a batch without padding."""
    kept = examples.labels[task] != PADDING_LABEL
    return Examples(examples.inputs[task][kept], examples.labels[task][kept])


def plain_loss(network, space, weights, examples):
    params = space.unflatten(weights)
    logits = torch.func.functional_call(network.module, params, (examples.inputs,))
    return cross_entropy(logits, examples.labels)


def plain_steps(network, space, weights, support, steps, lr, first_order):
    for _ in range(steps):
        loss = plain_loss(network, space, weights, support)
        (slope,) = torch.autograd.grad(loss, weights, create_graph=not first_order)
        weights = weights - lr * (slope.detach() if first_order else slope)
    return weights


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 3, [2, 0, 4]])
def test_adapted_weights_and_their_gradients_equal_a_loop(tasks, network, steps, first_order):
    space, batch = network.space, collate(tasks)
    start = torch.randn(len(tasks), space.size).double().requires_grad_()
    own = [steps] * len(tasks) if isinstance(steps, int) else steps
    steps = steps if isinstance(steps, int) else torch.tensor(steps)
    ours = adapt(network, start, batch.support, {}, steps=steps, lr=0.5, first_order=first_order)
    plain = torch.stack([
        plain_steps(network, space, start[i], task.support, own[i], 0.5, first_order)
        for i, task in enumerate(tasks)
    ])  # fmt: skip
    assert_close(ours, plain, **EXACT)

    def slope(weights):
        losses = [plain_loss(network, space, w, task.query) for w, task in zip(weights, tasks, strict=True)]
        return torch.autograd.grad(sum(losses), start)[0]

    assert_close(slope(ours), slope(plain), **EXACT)


@pytest.mark.parametrize("make", [shared, conditional])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_objective_equals_a_loop_with_its_gradients(tasks, network, make, first_order, monkeypatch):
    hypernet, batch = make(network), collate(tasks)
    space = hypernet.space
    split, drawn = remembered_split(monkeypatch)
    objective = AdaptationLoss(network, hypernet, 1, 4, inner_lr=0.4, first_order=first_order)
    torch.manual_seed(3)
    outcome = objective(batch)
    ours = torch.autograd.grad(outcome.loss, list(hypernet.parameters()))

    torch.manual_seed(3)
    halves = split(batch, 0.5)
    steps = torch.randint(1, 5, (len(tasks),)).tolist()
    assert len(set(steps)) > 1 and drawn == [0.5]
    losses, right = [], []
    for i, start in enumerate(hypernet(batch.embeds)):
        weights = plain_steps(network, space, start, labelled(halves.support, i), steps[i], 0.4, first_order)
        query = labelled(halves.query, i)
        losses.append(plain_loss(network, space, weights, query))
        logits = torch.func.functional_call(network.module, space.unflatten(weights), (query.inputs,))
        right.append((logits.argmax(dim=1) == query.labels).double().mean())
    plain = torch.autograd.grad(sum(losses) / len(losses), list(hypernet.parameters()))
    assert outcome.loss.item() == pytest.approx(sum(losses).item() / len(losses), rel=1e-9)
    assert outcome.metrics["accuracy"].item() == pytest.approx(sum(right).item() / len(right))
    for one, other in zip(ours, plain, strict=True):
        assert other.any()
        assert_close(one, other, **EXACT)


def remembered_split(monkeypatch):
    """The real way to draw support and query sets, and the fractions it is asked for."""
    from weightgen.objectives import adaptation

    real, asked = adaptation.resplit, []

    def resplit(batch, fraction):
        asked.append(fraction)
        return real(batch, fraction)

    monkeypatch.setattr(adaptation, "resplit", resplit)
    return real, asked


def test_first_and_second_order_differ(tasks, network):
    slopes = []
    for first_order in (False, True):
        torch.manual_seed(0)
        hypernet = shared(network)
        objective = AdaptationLoss(network, hypernet, 3, 3, inner_lr=0.5, first_order=first_order)
        slopes.append(torch.autograd.grad(objective(collate(tasks)).loss, hypernet.weights)[0])
    assert (slopes[0] - slopes[1]).abs().max() > 1e-3


def padded(batch, by):
    """The same tasks with more padding, whose inputs are huge."""

    def more(examples):
        rows = len(examples.labels)
        inputs = torch.cat([examples.inputs, torch.full((rows, by, D), 1e6).double()], dim=1)
        return Examples(inputs, nn.functional.pad(examples.labels, (0, by), value=PADDING_LABEL))

    return batch._replace(support=more(batch.support), query=more(batch.query))


@pytest.mark.parametrize("first_order", [False, True])
def test_padding_changes_neither_weights_nor_gradients(tasks, network, first_order):
    space, batch = network.space, collate(tasks)
    start = torch.randn(len(tasks), space.size).double().requires_grad_()

    def run(batch):
        options = {"steps": 3, "lr": 0.5, "first_order": first_order}
        weights = adapt(network, start, batch.support, batch.context, **options)
        loss = task_loss(network(weights, batch.query.inputs), batch.query.labels)
        return weights, loss, torch.autograd.grad(loss.sum(), start)[0]

    together, more = run(batch), run(padded(batch, 6))
    for one, other in zip(together, more, strict=True):
        assert_close(one, other, **EXACT)
    for i, task in enumerate(tasks):
        weights = adapt(
            network, start[i : i + 1], collate([task]).support, {}, steps=3, lr=0.5, first_order=True
        )
        assert_close(weights[0], together[0][i], **EXACT)


def test_without_inner_steps_all_examples_are_learned_from(tasks, network):
    hypernet, batch = conditional(network), collate(tasks)
    outcome = AdaptationLoss(network, hypernet)(batch)
    losses = []
    for task, weights in zip(tasks, hypernet(batch.embeds), strict=True):
        parts = (task.support, task.query)
        whole = Examples(torch.cat([p.inputs for p in parts]), torch.cat([p.labels for p in parts]))
        losses.append(plain_loss(network, hypernet.space, weights, whole))
    assert outcome.loss.item() == pytest.approx(sum(losses).item() / len(losses), rel=1e-9)


def test_the_number_of_steps_is_drawn_for_each_task(tasks, network, monkeypatch):
    from weightgen.objectives import adaptation

    seen = []

    def spy(*args, steps, **options):
        seen.extend(steps.tolist())
        return adapt(*args, steps=steps, **options)

    monkeypatch.setattr(adaptation, "adapt", spy)
    objective = AdaptationLoss(network, shared(network), min_inner_steps=1, max_inner_steps=3)
    for _ in range(60):
        objective(collate(tasks))
    assert set(seen) == {1, 2, 3}
    assert max(seen.count(n) for n in (1, 2, 3)) < 1.6 * min(seen.count(n) for n in (1, 2, 3))
    assert any(len(set(seen[i : i + 3])) > 1 for i in range(0, len(seen), 3))


def test_the_base_network_is_not_trained(tasks, network):
    objective = AdaptationLoss(network, shared(network), max_inner_steps=2)
    assert [name for name, _ in objective.named_parameters()] == ["hypernet.weights"]
    before = [p.clone() for p in network.module.parameters()]
    objective(collate(tasks)).loss.backward()
    assert all(p.grad is None for p in network.module.parameters())
    assert all(torch.equal(p, q) for p, q in zip(network.module.parameters(), before, strict=True))


def test_descent_descends(tasks, network):
    space, batch = network.space, collate(tasks)
    start = torch.randn(len(tasks), space.size).double()
    losses = []
    for steps in (0, 5, 50):
        weights = adapt(network, start, batch.support, {}, steps=steps, lr=0.1)
        logits = network(weights, batch.support.inputs)
        losses.append(task_loss(logits, batch.support.labels))
    assert (losses[2] < losses[1]).all() and (losses[1] < losses[0]).all()
