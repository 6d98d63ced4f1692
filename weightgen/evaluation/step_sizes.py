"""Numbers and sizes of gradient steps, tried on the tasks of a split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weightgen.adaptation import adapt, initial_points
from weightgen.evaluation.accuracy import evaluate
from weightgen.metrics import task_loss
from weightgen.protocols import TaskSource
from weightgen.tasks import TaskBatch
from weightgen.weights import FunctionalNetwork


class Trial(NamedTuple):
    """What a number of steps of one size does.

    Attributes:
        steps: gradient steps.
        lr: their size.
        before: support loss before the steps, mean over the first tasks.
        after: support loss after them.
        accuracy: query accuracy after the steps; None where they did not lower the loss.
    """

    steps: int
    lr: float
    before: float
    after: float
    accuracy: float | None


@torch.no_grad()
def try_step_sizes(
    network: FunctionalNetwork,
    hypernet: Any,
    tasks: TaskSource,
    steps: Sequence[int],
    lrs: Sequence[float],
    inner_variable: str = "weights",
    loss_tasks: int = 32,
) -> list[Trial]:
    """Fine-tune all tasks with each number and size of steps; steps that raise the loss of the support sets, or make it NaN, get no score.

    Args:
        network: the base network.
        hypernet: gives the start.
        tasks: T tasks.
        steps: the numbers.
        lrs: the sizes.
        inner_variable: what the steps change, "weights" or "latents".
        loss_tasks: how many of the tasks the loss is computed on.
    """
    few = tasks.batch(range(min(len(tasks), loss_tasks)))

    def weights(batch: TaskBatch, count: int, lr: float) -> Tensor:
        start, decode = initial_points(hypernet, batch.embeds, inner_variable)
        found = adapt(network, start, batch.support, batch.context, steps=count, lr=lr, decode=decode)
        return found if decode is None else decode(found)

    def loss(count: int, lr: float) -> float:
        logits = network(weights(few, count, lr), few.support.inputs, **few.context)
        return task_loss(logits, few.support.labels).mean().item()

    def trial(count: int, lr: float) -> Trial:
        after = loss(count, lr)
        if count and lr and not after < before:
            return Trial(count, lr, before, after, None)
        score = evaluate(network, tasks, lambda batch, _: weights(batch, count, lr))
        return Trial(count, lr, before, after, score.macro)

    before = loss(0, 0.0)
    return [trial(count, lr) for count, lr in product(steps, lrs)]
