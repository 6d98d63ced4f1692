"""Loss and accuracy of padded few-shot predictions, per task.

Letters: B tasks, N examples, C classes; labels of padding are -100.
"""

from __future__ import annotations

import torch
from torch import Tensor

from weightgen.errors import InputError
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the examples of each task, so that tasks weigh equally whatever their size.

    Args:
        logits: with shape (*, N, C).
        labels: with shape (*, N).

    Returns:
        Losses in nats, with shape (*); 0 for a task without examples.
    """
    valid = labels != PADDING_LABEL
    chosen = logits.log_softmax(dim=-1).gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    return -(chosen * valid).sum(dim=-1) / valid.sum(dim=-1).clamp_min(1)


def task_accuracy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Right predictions and examples of each task.

    Args:
        logits: with shape (*, N, C).
        labels: with shape (*, N).

    Returns:
        The numbers of right predictions and of examples, each with shape (*).
    """
    valid = labels != PADDING_LABEL
    right = (logits.argmax(dim=-1) == labels) & valid
    return right.sum(dim=-1), valid.sum(dim=-1)


def resplit(batch: TaskBatch, support_fraction: float | Tensor = 0.7) -> TaskBatch:
    """Draw new support and query sets from all examples of each task, with torch's global randomness.

    Both sets have every example as input; the labels of those that belong to the other set are -100. That costs some padding and
    spares moving rows.

    Args:
        batch: B tasks.
        support_fraction: share of each task's examples that goes to the support set; a number or one per task (B,).

    Returns:
        The same tasks with other sets, disjoint.
    """
    inputs = torch.cat([batch.support.inputs, batch.query.inputs], dim=1)
    labels = torch.cat([batch.support.labels, batch.query.labels], dim=1)
    valid = labels != PADDING_LABEL
    order = torch.rand(labels.shape, device=labels.device).masked_fill(~valid, 2.0)
    rank = order.argsort(dim=1).argsort(dim=1)
    fraction = torch.as_tensor(support_fraction, device=labels.device).reshape(-1, 1)
    in_support = rank < (fraction * valid.sum(dim=1, keepdim=True)).round()
    return batch._replace(
        support=Examples(inputs, labels.masked_fill(~in_support, PADDING_LABEL)),
        query=Examples(inputs, labels.masked_fill(in_support, PADDING_LABEL)),
    )


def subsample(examples: Examples, shots: int | Tensor, order: Tensor) -> Examples:
    """Keep the labels of at most `shots` examples of each class of each task; the others become padding.

    With the same `order`, what fewer shots keep is part of what more shots keep.

    Args:
        examples: of B tasks.
        shots: examples per class, one number or one per class (B, C); classes that have fewer keep all.
        order: random numbers (B, N); the smallest of a class are kept.

    Returns:
        The same inputs (B, N, *), with labels (B, N) of which some are now -100.

    Raises:
        InputError: negative shots.
    """
    labels = examples.labels
    limits = torch.as_tensor(shots, device=labels.device)
    if bool((limits < 0).any()):
        raise InputError(f"expected a number of shots from 0 up, got {int(limits.min())}")
    turn = order.argsort(dim=1)
    turned = labels.gather(1, turn)
    number = limits.shape[-1] if limits.ndim else max(int(labels.max()) + 1, 1)
    # (B, N, C): how many of each class so far, this one included
    rank = (turned.unsqueeze(-1) == torch.arange(number, device=labels.device)).cumsum(dim=1)
    own = rank.gather(-1, turned.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    limit = limits.gather(1, turned.clamp_min(0)) if limits.ndim else limits
    kept = torch.where(own <= limit, turned, PADDING_LABEL)
    return examples._replace(labels=torch.empty_like(labels).scatter(1, turn, kept))
