"""The loss on what generated weights do: that of the tasks they are for, or a score of the user's own.

Notation: B tasks, P weights.
"""

from __future__ import annotations

from torch import Tensor

from weightgen.errors import InputError
from weightgen.metrics import task_accuracy, task_loss
from weightgen.nn.across_processes import shared_mean
from weightgen.protocols import WeightScore
from weightgen.shots import resplit
from weightgen.tasks import TaskBatch, has_query
from weightgen.weights import FunctionalNetwork


def function_loss(
    network: FunctionalNetwork, weights: Tensor, tasks: TaskBatch | Tensor, score: WeightScore | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean over tasks of the cross-entropy on all examples of a task, or of what the score says.

    Args:
        network: the base network; a score does not need it.
        weights: with shape (B, P).
        tasks: B tasks; for a score, their numbers in the zoo (B,).
        score: of weights of a zoo that has no tasks.

    Returns:
        The loss, and metrics by name.

    Raises:
        InputError: the score returns another shape than (B,).
    """
    if isinstance(tasks, TaskBatch):
        asked, real = resplit(tasks, 0.0).query, has_query(tasks)
        logits = network(weights, asked.inputs, **tasks.context)
        task = shared_mean(task_loss(logits, asked.labels), real)
        accuracy = shared_mean(task_accuracy(logits, asked.labels), real)
        return task, {"task_loss": task.detach(), "accuracy": accuracy}
    assert score is not None
    mean = shared_mean(checked_scores(score, weights, tasks))
    return mean, {"score": mean.detach()}


def checked_scores(score: WeightScore, weights: Tensor, tasks: Tensor) -> Tensor:
    """What a score says of weights (B, P) for tasks (B,), with shape (B,).

    Raises:
        InputError: it has another shape.
    """
    found = score(weights, tasks)
    if not isinstance(found, Tensor) or found.shape != tasks.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(
            f"{type(score).__name__} returns {shape} for {len(tasks)} weight vectors: expected one loss for each, "
            f"with shape ({len(tasks)},)"
        )
    return found
