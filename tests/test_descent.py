import pytest
import torch
from torch import Tensor

from weightgen import Examples, descend

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


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [4, 0, [0, 1, 2, 3, 4]])
def test_equals_a_loop_with_its_gradients(problem, steps, first_order, chunk_size):
    start, data, shared = problem
    counts = [steps] * 5 if isinstance(steps, int) else steps
    adapted = descend(
        lambda point, own: loss(point, own, shared),
        start,
        data,
        steps=steps if isinstance(steps, int) else torch.tensor(steps),
        lr=0.3,
        first_order=first_order,
        chunk_size=chunk_size,
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
        adapted = descend(
            lambda p, d: loss(p, d, shared), start, data, steps=3, lr=0.3, first_order=first_order
        )
        gradients.append(torch.autograd.grad(adapted.sum(), start)[0])
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3


def test_a_quadratic_is_solved_in_closed_form():
    start, goal = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    found = descend(lambda x, y: 0.5 * (x - y).square().sum(), start, goal, steps=10, lr=0.1)
    torch.testing.assert_close(found, goal + 0.9**10 * (start - goal), **TOLERANCE)


def test_a_step_size_per_dimension_can_be_learned():
    start, goal = torch.zeros(4, 2), torch.randn(4, 2)
    lr = torch.tensor([0.5, 0.0], requires_grad=True)
    found = descend(lambda x, y: (x - y).square().sum(), start, goal, steps=1, lr=lr)
    torch.testing.assert_close(found[:, 0], goal[:, 0])
    assert torch.equal(found[:, 1], start[:, 1])
    assert torch.autograd.grad(found.sum(), lr)[0].abs().min() > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients(problem, mode):
    start, data, shared = problem
    with mode():
        quiet = descend(lambda p, d: loss(p, d, shared), start, data, steps=2, lr=0.1)
    assert not quiet.requires_grad
    loud = descend(lambda p, d: loss(p, d, shared), start, data, steps=2, lr=0.1)
    assert loud.requires_grad
    torch.testing.assert_close(quiet, loud)
