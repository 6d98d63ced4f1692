"""Loss, accuracy and calibration of padded few-shot predictions.

Notation: B tasks, N examples, C classes, M examples of all tasks; labels of padding are -100.
"""

from __future__ import annotations

import torch
from torch import Tensor

from weightgen.tasks import PADDING_LABEL


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the examples of each task; small and large tasks have the same weight.

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
    """Count the correct predictions and the examples of each task.

    Args:
        logits: with shape (*, N, C).
        labels: with shape (*, N).

    Returns:
        The numbers of correct predictions and of examples, each with shape (*).
    """
    valid = labels != PADDING_LABEL
    right = (logits.argmax(dim=-1) == labels) & valid
    return right.sum(dim=-1), valid.sum(dim=-1)


def task_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The accuracy on the examples of each task, (*) for logits (*, N, C) and labels (*, N); 0 for a task without examples."""
    right, count = count_correct(logits, labels)
    return right / count.clamp_min(1)


def expected_calibration_error(confidence: Tensor, right: Tensor, bins: int = 15) -> float:
    """Σ over bins of (fraction of the examples in it) · |accuracy − mean confidence|, with bins of equal width.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3.

    Args:
        confidence: probability of the predicted answer, with shape (M,).
        right: whether it was right, with shape (M,).
        bins: the number of bins.
    """
    place = (confidence * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gap.index_add_(0, place, right.double() - confidence.double())
    return (gap.abs().sum() / max(len(confidence), 1)).item()


def whole_pictures(inputs: Tensor, embed_dim: int) -> Tensor:
    """The embeddings of whole pictures (*, E), without the image tokens that a `TokenEncoder` puts behind them."""
    return inputs[..., :embed_dim]
