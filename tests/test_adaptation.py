import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from weightgen import CLIPAdapter, Examples, FunctionalNetwork, gradient_descent
from weightgen.adaptation import adapt, adapter_descent
from weightgen.metrics import task_loss

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def loss(point: Tensor, data: Examples, shared: Tensor) -> Tensor:
    """Not quadratic, so that second-order terms matter; `shared` stands for meta-parameters."""
    residual = torch.tanh(data.inputs @ (point * shared)) - data.labels
    return residual.square().mean()


@pytest.fixture
def problem():
    start = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    data = Examples(torch.randn(5, 7, 3, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64))
    shared = torch.randn(3, dtype=torch.float64, requires_grad=True)
    return start, data, shared


def by_hand(start, data, shared, steps, lr, first_order):
    """The same with a Python loop over tasks and autograd."""
    points = []
    for task in range(len(start)):
        point, own = start[task], Examples(data.inputs[task], data.labels[task])
        for _ in range(steps[task]):
            slope = torch.autograd.grad(loss(point, own, shared), point, create_graph=not first_order)[0]
            point = point - lr * slope
        points.append(point)
    return torch.stack(points)


@pytest.mark.parametrize("checkpoint_steps", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [4, 0, [0, 1, 2, 3, 4]])
def test_equals_a_loop_with_its_gradients(problem, steps, first_order, chunk_size, checkpoint_steps):
    start, data, shared = problem
    counts = [steps] * 5 if isinstance(steps, int) else steps
    adapted = gradient_descent(
        lambda point, own: loss(point, own, shared),
        start,
        data,
        steps=steps if isinstance(steps, int) else torch.tensor(steps),
        lr=0.3,
        first_order=first_order,
        chunk_size=chunk_size,
        checkpoint_steps=checkpoint_steps,
    )
    expected = by_hand(start, data, shared, counts, 0.3, first_order)
    torch.testing.assert_close(adapted, expected, **TOLERANCE)

    def outer_gradients(points):
        outer = sum(
            loss(points[i], Examples(data.inputs[i], data.labels[i] + 1), shared) for i in range(len(points))
        )
        return torch.autograd.grad(outer, [start, shared])

    for ours, theirs in zip(outer_gradients(adapted), outer_gradients(expected), strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_orders_differ(problem):
    start, data, shared = problem
    gradients = []
    for first_order in (False, True):
        adapted = gradient_descent(
            lambda p, d: loss(p, d, shared), start, data, steps=3, lr=0.3, first_order=first_order
        )
        gradients.append(torch.autograd.grad(adapted.sum(), start)[0])
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


def test_a_quadratic_is_solved_in_closed_form():
    start, goal = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    found = gradient_descent(lambda x, y: 0.5 * (x - y).square().sum(), start, goal, steps=10, lr=0.1)
    torch.testing.assert_close(found, goal + 0.9**10 * (start - goal), **TOLERANCE)


def test_a_step_size_per_dimension_can_be_learned():
    start, goal = torch.zeros(4, 2), torch.randn(4, 2)
    lr = torch.tensor([0.5, 0.0], requires_grad=True)
    found = gradient_descent(lambda x, y: (x - y).square().sum(), start, goal, steps=1, lr=lr)
    torch.testing.assert_close(found[:, 0], goal[:, 0])
    assert torch.equal(found[:, 1], start[:, 1])
    assert torch.autograd.grad(found.sum(), lr)[0].abs().min() > 0


@pytest.mark.parametrize("checkpoint_steps", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients(problem, mode, checkpoint_steps):
    start, data, shared = problem
    with mode():
        quiet = gradient_descent(
            lambda p, d: loss(p, d, shared), start, data, steps=2, lr=0.1, checkpoint_steps=checkpoint_steps
        )
    assert not quiet.requires_grad
    loud = gradient_descent(lambda p, d: loss(p, d, shared), start, data, steps=2, lr=0.1)
    assert loud.requires_grad
    torch.testing.assert_close(quiet, loud)


def kept_bytes(steps, **settings):
    """Bytes that autograd keeps of `steps` inner steps on wide hidden layers, and the gradients of all that learns."""
    torch.manual_seed(0)
    start = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    wide = torch.randn(6, 50, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(4, 30, 6, dtype=torch.float64)
    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)

    def wide_loss(point, x):
        return torch.tanh((x * point) @ wide).square().mean()

    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = gradient_descent(wide_loss, start, inputs, steps=steps, lr=lr, **settings)
    gradients = torch.autograd.grad(found.square().sum(), [start, wide, lr])
    return sum(size for size, _ in kept.values()), gradients


def test_checkpointed_steps_keep_less(monkeypatch):
    few, checkpointed = kept_bytes(5, checkpoint_steps=True)
    more, _ = kept_bytes(49, checkpoint_steps=True)
    point = 4 * 6 * 8
    assert more - few <= 5 * point  # each of 7 parts in place of 2 keeps where it started, and nothing else
    # The same steps on the same path, but for the checkpoint: torch.func does not let hooks count what it keeps.
    monkeypatch.setattr("weightgen.nn.steps.checkpoint", lambda step, *args, use_reentrant: step(*args))
    plain, gradients = kept_bytes(5, checkpoint_steps=True)
    assert few < plain / 10
    for mine, theirs in zip(checkpointed, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


def test_nothing_is_computed_again_in_first_order(problem, monkeypatch):
    """Which keeps no activations: its slopes are constants."""
    start, data, shared = problem
    monkeypatch.delattr("weightgen.nn.steps.checkpoint")
    found = gradient_descent(
        lambda p, d: loss(p, d, shared), start, data,
        steps=2, lr=0.1, first_order=True, checkpoint_steps=True,
    )  # fmt: skip
    assert torch.equal(torch.autograd.grad(found.sum(), start)[0], torch.ones_like(start))


def test_checkpointed_steps_draw_the_same_random_numbers():
    """Where the loss is random, a step that is computed again has to be the same step."""
    start = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    found = []
    for checkpoint_steps in (False, True):
        torch.manual_seed(1)
        point = gradient_descent(
            lambda p: torch.nn.functional.dropout(torch.sin(p), 0.5).square().sum(),
            start, steps=3, lr=0.1, checkpoint_steps=checkpoint_steps,
        )  # fmt: skip
        found.append((point, *torch.autograd.grad(point.square().sum(), start), torch.rand(1)))
    for plain, mine in zip(*found, strict=True):
        torch.testing.assert_close(mine, plain, **TOLERANCE)


ADAPTERS = [{}, {"ntk": False}, {"bias": False}, {"normalize_inputs": False, "init": "authors"}]


def adapter_tasks(**settings):
    """An adapter, starts, a loss for one task, and three tasks of 5, 2 and 1 examples, with padding in between and padded answers."""
    torch.manual_seed(0)
    network = FunctionalNetwork(CLIPAdapter(12, 5, **settings).double())
    start = (
        network.initial_weights + 0.2 * torch.randn(3, network.space.size, dtype=torch.float64)
    ).requires_grad_()
    labels = torch.tensor([[0, 1, 2, 1, 0], [-100, 2, -100, 0, -100], [1, -100, -100, -100, -100]])
    support = Examples(torch.randn(3, 5, 12, dtype=torch.float64), labels)
    mask = torch.tensor([[True, True, True], [True, True, True], [True, True, False]])
    context = {"answers": torch.randn(3, 3, 12, dtype=torch.float64) * mask[..., None], "answer_mask": mask}

    def loss(weights, examples, extra):
        return task_loss(network.single(weights, examples.inputs, **extra), examples.labels)

    return network, start, loss, support, context


@pytest.mark.parametrize("settings", ADAPTERS)
@pytest.mark.parametrize("steps", [3, torch.tensor([0, 5, 2])])
@pytest.mark.parametrize(
    "order", [{}, {"first_order": False}, {"first_order": False, "checkpoint_steps": True}]
)
def test_the_adapters_own_descent_is_gradient_descent(settings, steps, order):
    """And the result leads back to the starts, as in MAML of first and of second order."""
    network, start, loss, support, context = adapter_tasks(**settings)
    how = {"steps": steps, "lr": 0.1}
    found = adapt(network, start, support, context, **how, **order)
    expected = gradient_descent(loss, start, support, context, **how, **{"first_order": True} | order)
    assert (expected - start).abs().max() > 0.01
    assert_close(found, expected, **TOLERANCE)
    slopes = [torch.autograd.grad(each.square().sum(), start)[0] for each in (found, expected)]
    if "first_order" in order:
        assert (slopes[1] - 2 * expected.detach()).abs().max() > 0.01  # second order is not first order
    assert_close(*slopes, **TOLERANCE)


@pytest.mark.parametrize("steps", [3, torch.tensor([0, 5, 2])])
def test_the_adapters_own_descent_on_latents_is_gradient_descent(steps):
    network, _, loss, support, context = adapter_tasks()
    start = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    matrix = 0.3 * torch.randn(4, network.space.size, dtype=torch.float64)

    def decode(latents):
        return network.initial_weights + torch.tanh(latents) @ matrix

    found = adapt(network, start, support, context, steps=steps, lr=0.1, decode=decode)
    expected = gradient_descent(
        lambda latent, *data: loss(decode(latent), *data), start, support, context,
        steps=steps, lr=0.1, first_order=True,
    )  # fmt: skip
    assert (expected - start).abs().max() > 0.01
    assert_close(found, expected, **TOLERANCE)
    (slopes,) = torch.autograd.grad(found.sum(), start)
    assert torch.equal(slopes, torch.ones_like(start))


def test_only_a_whole_adapter_takes_its_own_descent(monkeypatch):
    """A class that changes the forward pass, and one of whose parameters only some are generated, are left to `gradient_descent`."""

    class Doubled(CLIPAdapter):
        def forward(self, inputs, answers, answer_mask=None):
            return 2 * super().forward(inputs, answers, answer_mask)

    called = []
    own = adapter_descent.changes
    monkeypatch.setattr(
        adapter_descent, "changes", lambda *args, **how: called.append(args) or own(*args, **how)
    )
    support, context = (
        Examples(torch.randn(1, 4, 6), torch.tensor([[0, 1, 1, 0]])),
        {"answers": torch.randn(1, 2, 6)},
    )
    for network in (
        FunctionalNetwork(Doubled(6, 3)),
        FunctionalNetwork(CLIPAdapter(6, 3), exclude="hidden.*"),
        FunctionalNetwork(CLIPAdapter(6, 3)),
    ):
        assert not called
        adapt(network, network.initial_weights[None], support, context, steps=1, lr=0.1)
    assert len(called) == 1


def test_an_adapter_under_autocast_is_left_to_gradient_descent(monkeypatch):
    """Whose products are in half precision on the device of the network."""
    network, start, _, support, context = adapter_tasks()
    asked = []
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cuda": asked.append(kind) or True)
    monkeypatch.delattr(adapter_descent, "changes")
    adapt(network, start, support, context, steps=1, lr=0.1)
    assert asked[0] == network.initial_weights.device.type
