"""Ensembles: several sampled networks for one question, averaged as probabilities or as weights.

Notation: B tasks of a batch, K networks per task, N examples, C classes, P weights, M examples of all tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation.accuracy import WeightsOf, check_tasks_finite
from weightgen.metrics import expected_calibration_error
from weightgen.tasks import PADDING_LABEL, batches
from weightgen.weights import FunctionalNetwork

AVERAGES = ("probabilities", "weights")


class EnsembleScores(NamedTuple):
    """Query scores of an ensemble.

    Attributes:
        accuracy: mean over tasks of per-task accuracy.
        nll: negative log-likelihood of the right answer in nats, mean over tasks of the mean over a task's
            examples.
        calibration_error: expected calibration error over the examples of all tasks together.
    """

    accuracy: float
    nll: float
    calibration_error: float


def ensemble_probabilities(
    network: FunctionalNetwork,
    weights: Tensor,
    inputs: Tensor,
    context: dict[str, Tensor],
    sizes: Sequence[int],
    average: str = "probabilities",
) -> Tensor:
    """Class probabilities of the ensembles of the first n of K networks, for each n in `sizes`.

    Args:
        network: the base network.
        weights: with shape (B, K, P).
        inputs: with shape (B, N, *).
        context: further inputs of the network, with shape (B, ...).
        sizes: the numbers n.
        average: "probabilities" of the networks, or their "weights".

    Returns:
        Probabilities, with shape (B, len(sizes), N, C).

    Raises:
        InputError: weights of one network per task, a number n that is not from 1 to K, or another `average`.
    """
    if average not in AVERAGES:
        raise InputError(f"average must be one of {AVERAGES}, got {average!r}")
    if weights.ndim != 3:
        raise InputError(f"an ensemble needs weights of shape (B, K, P), got {tuple(weights.shape)}")
    number = weights.shape[1]
    if not sizes or min(sizes) < 1 or max(sizes) > number:
        raise InputError(f"expected numbers of networks from 1 to the {number} given, got {list(sizes)}")
    if average == "weights":
        means = torch.stack([weights[:, :n].mean(dim=1) for n in sizes], dim=1)
        return network(means, inputs, **context).softmax(dim=-1)
    each = network(weights[:, : max(sizes)], inputs, **context).softmax(dim=-1)
    return torch.stack([each[:, :n].mean(dim=1) for n in sizes], dim=1)


@torch.no_grad()
def ensemble_scores(
    network: FunctionalNetwork,
    tasks: MetaVQATasks,
    weights_of: WeightsOf,
    sizes: Sequence[int],
    average: str = "probabilities",
    bins: int = 15,
    batch_size: int = 64,
) -> dict[int, EnsembleScores]:
    """Score ensembles on the query sets of a split, by the number of networks; `weights_of` gives weights (B, K, P).

    Raises:
        InputError: weights that are not finite, or see `ensemble_probabilities`.
    """
    accuracy = torch.zeros(len(tasks), len(sizes))
    nll = torch.zeros(len(tasks), len(sizes))
    confidences: list[list[Tensor]] = [[] for _ in sizes]
    hits: list[list[Tensor]] = [[] for _ in sizes]
    for rows in batches(tasks.sizes, batch_size):
        batch = tasks.batch(rows)
        weights = weights_of(batch, torch.tensor(rows))
        check_tasks_finite(weights, rows, "weights")
        found = ensemble_probabilities(network, weights, batch.query.inputs, batch.context, sizes, average)
        labels = batch.query.labels[:, None].expand(found.shape[:-1])
        valid = labels != PADDING_LABEL
        confidence, chosen = found.max(dim=-1)
        right = (chosen == labels) & valid
        own = found.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        # Where softmax rounds to 0, the loss would be infinite: the smallest positive number takes its place.
        surprise = -own.clamp_min(torch.finfo(own.dtype).tiny).log() * valid
        count = valid.sum(dim=-1).clamp_min(1)
        accuracy[rows] = (right.sum(dim=-1) / count).cpu()
        nll[rows] = (surprise.sum(dim=-1) / count).float().cpu()
        for i in range(len(sizes)):
            confidences[i].append(confidence[:, i][valid[:, i]].cpu())
            hits[i].append(right[:, i][valid[:, i]].cpu())
    return {
        size: EnsembleScores(
            accuracy[:, i].mean().item(),
            nll[:, i].mean().item(),
            expected_calibration_error(torch.cat(confidences[i]), torch.cat(hits[i]), bins),
        )
        for i, size in enumerate(sizes)
    }
