"""Batched inner loops against a plain Python loop over tasks, and faults of the authors' code that concern them."""

import pytest
import torch

from weightgen import CLIPAdapter, FunctionalNetwork, HNet, InputError, SharedWeights
from weightgen.adaptation import adapt, initial_points
from weightgen.metrics import task_loss
from weightgen.objectives import AdaptationLoss
from weightgen.tasks import Examples, TaskBatch, collate

E, Q, Z = 6, 5, 4
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def ragged_tasks(sizes=((7, 2), (3, 4), (5, 3))):
    tasks = []
    for count, answers in sizes:
        support, query = (
            Examples(torch.randn(n, E).double(), torch.randint(answers, (n,))) for n in (count, count + 1)
        )
        context = {"answers": torch.randn(answers, E).double(), "answer_mask": torch.ones(answers).bool()}
        tasks.append(TaskBatch(support, query, torch.randn(Q).double(), context))
    return tasks


def make(kind):
    network = FunctionalNetwork(CLIPAdapter(E, hidden_dim=3, init="authors", logit_scale=5.0).double())
    space = network.space
    start = network.initial_weights
    if kind == "shared":
        return network, SharedWeights(space).double().init_weights(start)
    if kind == "latent":
        hypernet = HNet(space, Z, (8,), latent_dim=Z, spread=0.5)
        return network, hypernet.double().init_weights(start)
    hypernet = HNet(space, Q, (8,), spread=0.5).double().init_weights(start)
    hypernet.fit(torch.randn(9, Q).double())
    return network, hypernet


CASES = [("shared", "weights"), ("question", "weights"), ("latent", "latents"), ("question", "latents")]


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(("kind", "point"), CASES)
def test_equals_a_loop_over_tasks_with_its_gradients(kind, point, first_order):
    network, hypernet = make(kind)
    tasks, counts = ragged_tasks(), [3, 0, 2]
    batch = collate(tasks)

    start, decode = initial_points(hypernet, batch.embeds, point)
    found = adapt(
        network, start, batch.support, batch.context,
        steps=torch.tensor(counts), lr=0.3, first_order=first_order, decode=decode,
    )  # fmt: skip
    weights = found if decode is None else decode(found)
    logits = network(weights, batch.query.inputs, **batch.context)
    ours = task_loss(logits, batch.query.labels)

    theirs = []
    for task, count in zip(tasks, counts, strict=True):

        def loss(p, examples, extra=task.context):
            w = p if point == "weights" else hypernet(p)
            outputs = network.single(w, examples.inputs, **extra)
            return torch.nn.functional.cross_entropy(outputs, examples.labels)

        p = initial_points(hypernet, task.embeds[None], point)[0][0]
        p = p if p.requires_grad else p.clone().requires_grad_()
        for _ in range(count):
            slope = torch.autograd.grad(loss(p, task.support), p, create_graph=not first_order)[0]
            p = p - 0.3 * (slope.detach() if first_order else slope)
        theirs.append(loss(p, task.query))
    torch.testing.assert_close(ours, torch.stack(theirs), **TOLERANCE)

    parameters = list(hypernet.parameters())
    gradients = (torch.autograd.grad(sum(losses) / 3, parameters) for losses in (ours, theirs))
    for mine, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, plain, **TOLERANCE)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(("kind", "point"), CASES)
def test_checkpointed_steps_change_nothing(kind, point, first_order):
    network, hypernet = make(kind)
    batch = collate(ragged_tasks())
    found = []
    for checkpoint_steps in (False, True):
        torch.manual_seed(3)  # the same split of the examples and numbers of steps
        objective = AdaptationLoss(
            network, hypernet, 1, 4, 0.3, first_order, inner_variable=point, checkpoint_steps=checkpoint_steps
        )
        loss = objective(batch).loss
        found.append([loss, *torch.autograd.grad(loss, list(hypernet.parameters()))])
    for plain, mine in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain, **TOLERANCE)


@pytest.mark.parametrize(("kind", "point"), CASES)
def test_every_task_weighs_the_same(kind, point):
    """The released code adds the gradient of the last task of a meta-batch once more."""
    network, hypernet = make(kind)
    tasks = ragged_tasks()

    def gradient(chosen):
        # Without inner steps all examples are learned from: nothing is random, and the parts add up exactly.
        objective = AdaptationLoss(network, hypernet, inner_variable=point, support_fraction=0.0)
        loss = objective(collate(chosen)).loss
        found = torch.autograd.grad(loss, list(hypernet.parameters()), allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    alone = torch.stack([gradient([task]) for task in tasks])
    torch.testing.assert_close(gradient(tasks), alone.mean(dim=0), **TOLERANCE)
    assert not torch.allclose(gradient(tasks), alone.mean(dim=0) + alone[-1] / 3)


@pytest.mark.parametrize("first_order", [False, True])
def test_a_learned_start_learns(first_order):
    """z⁰ and every weight of the hypernetwork get a gradient through the inner steps, and a few updates lower the loss."""
    network, hypernet = make("latent")
    objective = AdaptationLoss(network, hypernet, 1, 3, 0.3, first_order, inner_variable="latents")
    batch = collate(ragged_tasks())
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        outcome = objective(batch)
        outcome.loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in hypernet.parameters())
        optimizer.step()
        losses.append(outcome.loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_latents_reach_where_adaptation_lowers_the_loss():
    network, hypernet = make("latent")
    batch = collate(ragged_tasks())
    start, decode = initial_points(hypernet, batch.embeds, "latents")

    def support_loss(latents):
        logits = network(decode(latents), batch.support.inputs, **batch.context)
        return task_loss(logits, batch.support.labels)

    arguments = (network, start, batch.support, batch.context)
    found = adapt(*arguments, steps=50, lr=0.1, decode=decode)
    assert found.shape == (3, Z) and (support_loss(found) < support_loss(start)).all()


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_the_start_of_an_hnet_is_the_weights_given(spread):
    network, _ = make("shared")
    space = network.space
    given = torch.randn(space.size)
    hypernet = HNet(space, Z, (8,), latent_dim=Z, spread=spread).init_weights(given)
    torch.testing.assert_close(hypernet(hypernet.initial_latents(torch.zeros(2, Q))), given.expand(2, -1))
    away = hypernet(torch.randn(200, Z)) - given
    assert bool(away.abs().max() > 0.1) == bool(spread)


def test_refusals():
    network, shared = make("shared")
    with pytest.raises(InputError, match="has no latents to adapt"):
        AdaptationLoss(network, shared, inner_variable="latents")
    with pytest.raises(InputError, match="must be 'weights' or 'latents'"):
        AdaptationLoss(network, shared, inner_variable="z")
    with pytest.raises(InputError, match="min_inner_steps <= max_inner_steps"):
        AdaptationLoss(network, shared, 3, 2)
