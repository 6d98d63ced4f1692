"""Loss and accuracy of padded few-shot predictions, per task.

Notation: B tasks, N examples, C classes; labels of padding are -100.
"""

from __future__ import annotations

from torch import Tensor

from weightgen.tasks import PADDING_LABEL


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


def count_correct(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
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
