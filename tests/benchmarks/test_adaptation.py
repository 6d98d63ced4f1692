"""Adaptation at the paper's size: 64 tasks as large as those of Meta-VQA, and an adapter of P = 394,240 weights."""

import pytest
import torch
from torch.testing import assert_close

from tests.benchmarks import released
from tests.benchmarks.made_up import PAPER, meta_vqa_tasks, products_of_a_step
from tests.benchmarks.measure import DEVICE
from weightgen.adaptation import fine_tune
from weightgen.hypernets import HNet, SharedWeights
from weightgen.metrics import task_loss
from weightgen.networks import CLIPAdapter
from weightgen.reports.timing import peak_bytes
from weightgen.tasks import batches, collate
from weightgen.weights import FunctionalNetwork

LR, TOGETHER = 0.01, 16
ALONE = (5, 21, 37, 53)  # the tasks that the released procedure adapts: their mean size is near that of all


def prepared(count=64):
    torch.manual_seed(0)
    network = FunctionalNetwork(CLIPAdapter(*PAPER)).to(DEVICE)
    tasks = meta_vqa_tasks(count)
    return network, tasks, SharedWeights(network.space).init_weights(network.initial_weights.cpu()).to(DEVICE)


def adapted(network, hypernet, tasks, steps, together=TOGETHER, **how):
    """As recipes/adapt_tasks.py does it: batches of like size."""
    parts = batches([len(task.support.labels) for task in tasks], together)
    found = torch.empty(len(tasks), network.space.size, device=DEVICE)
    for rows in parts:
        batch = collate([tasks[row] for row in rows])
        found[rows] = fine_tune(network, hypernet, batch, steps=steps, lr=LR, **how).detach()
    return found


def share(tasks, some):
    """The share of all examples that some tasks have."""
    return sum(len(tasks[row].support.labels) for row in some) / sum(
        len(task.support.labels) for task in tasks
    )


@pytest.mark.parametrize("steps", [10, 50])
def test_inner_loop(row, steps):
    network, tasks, shared = prepared()
    start, some = shared.weights.detach(), ALONE if steps == 10 else ALONE[:2]
    expected = [released.adapt(network, tasks[number], start, steps, LR) for number in some]
    assert_close(
        adapted(network, shared, tasks, steps)[list(some)],
        torch.stack(expected).detach(),
        atol=1e-5,
        rtol=1e-5,
    )
    row(
        f"inner loop of MAML, 64 tasks, {steps} steps",
        lambda: adapted(network, shared, tasks, steps),
        released=lambda: [released.adapt(network, tasks[number], start, steps, LR) for number in some],
        share=share(tasks, some),
        flops=steps * products_of_a_step(tasks),
        aims=(20, 0.6),
        rounds=5 if steps == 10 else 3,
        note="limit: the five products of a step; those of the first layer become N x N in place of H x E. The released procedure does "
        "five as well, so that the limit itself bounds the ratio. Products of 29 rows reach 60 % of the rate of large ones",
    )


def test_inner_loop_through_hnet(row):
    network, tasks, _ = prepared(32)
    hnet = HNet(network.space, PAPER[0], (256,), latent_dim=64, spread=0.1).to(DEVICE)
    hnet.init_weights(network.initial_weights).requires_grad_(False)
    steps, some = 10, (5, 21)
    one = lambda number: released.adapt(network, tasks[number], hnet.start, steps, LR, hnet)  # noqa: E731
    row(
        "inner loop through HNet (z to 394,240), 32 tasks, 10 steps",
        lambda: adapted(network, hnet, tasks, steps, len(tasks), inner_variable="latents"),
        released=lambda: [one(number) for number in some],
        share=len(some) / len(tasks),  # nearly all of the work is the hypernetwork's
        flops=steps * (products_of_a_step(tasks) + len(tasks) * 4 * 256 * network.space.size),
        aims=(20, 0.6),
        rounds=3,
        note="limit: products of HNet's last layer, forward and backward, and of the adapters. The layer, 404 MB, is read twice a step; "
        "its products with 32 rows take two thirds of the time, at a third of the rate of large ones",
    )


def meta_step(network, shared, tasks, steps, checkpoint_steps=False):
    """The second-order gradient of MAML."""
    slopes = torch.zeros_like(shared.weights)
    for rows in batches([len(task.support.labels) for task in tasks], 8):
        batch = collate([tasks[row] for row in rows])
        how = {"first_order": False, "checkpoint_steps": checkpoint_steps}
        weights = fine_tune(network, shared, batch, steps=steps, lr=LR, **how)
        loss = task_loss(network(weights, batch.query.inputs, **batch.context), batch.query.labels).sum()
        slopes += torch.autograd.grad(loss, shared.weights)[0] / len(tasks)
    return slopes


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpointed"])
def test_second_order_step(row, checkpoint):
    network, tasks, shared = prepared(32)
    some = (5, 21)
    few = [tasks[number] for number in some]
    expected = released.meta_gradient(network, few, shared.weights, 10, LR)
    assert_close(meta_step(network, shared, few, 10, checkpoint), expected, atol=1e-5, rtol=1e-4)
    small = sorted(tasks, key=lambda task: len(task.support.labels))[:8]
    peak = [
        peak_bytes(lambda n=n: meta_step(network, shared, small, n, checkpoint), DEVICE) for n in (10, 50)
    ]
    row(
        f"second-order step of MAML, 32 tasks, 10 inner steps, activations {'computed again' if checkpoint else 'kept'}",
        lambda: meta_step(network, shared, tasks, 10, checkpoint),
        released=lambda: released.meta_gradient(network, few, shared.weights, 10, LR),
        share=share(tasks, some),
        aims=(8, None),
        rounds=3,
        note=f"peak memory of 8 tasks: {peak[0] / 1e6:.0f} MB with 10 steps, {peak[1] / 1e6:.0f} MB with 50"
        + (", aim < 2 times as much" if checkpoint else ""),
    )


@pytest.mark.parametrize(("name", "size"), [("Scenes", (128, 32)), ("the paper", PAPER)])
def test_forward_of_many_adapters(row, name, size):
    torch.manual_seed(0)
    network = FunctionalNetwork(CLIPAdapter(*size)).to(DEVICE)
    weights = network.initial_weights + 0.1 * torch.randn(64, network.space.size, device=DEVICE)
    inputs, answers = torch.randn(64, 32, size[0], device=DEVICE), torch.randn(64, 8, size[0], device=DEVICE)
    modules = [network.with_weights(each) for each in weights]

    @torch.no_grad()
    def together():
        return network(weights, inputs, answers=answers)

    @torch.no_grad()
    def one_by_one():
        return torch.stack([each(x, answers=a) for each, x, a in zip(modules, inputs, answers, strict=True)])

    assert_close(together(), one_by_one(), atol=1e-3, rtol=1e-4)
    row(
        f"64 adapters of the size of {name} on 64 x 32 inputs",
        together,
        released=one_by_one,
        flops=64 * 32 * 4 * size[0] * size[1],
        aims=(5, None),
        rounds=15,
        note="against a loop of modules that hold their weights"
        + (
            ". Products of 32 rows, as many in both, take three quarters of the time" if size == PAPER else ""
        ),
    )
