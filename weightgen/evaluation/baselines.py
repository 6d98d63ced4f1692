"""Baselines: classifiers and weights fitted to the examples of a task, weights of the most similar known questions, and a control.

Notation: T known tasks, R draws of adapted weights for each, B tasks, P weights, E embedding of a question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weightgen.adaptation import fine_tune
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, needs
from weightgen.evaluation.accuracy import Scores
from weightgen.evaluation.curves import few_shots, shot_curve
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.protocols import Hypernetwork
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch
from weightgen.weights import FunctionalNetwork


def logistic_regression(c: float = 10.0) -> Any:
    """scikit-learn's logistic regression, with the inverse regularisation strength `c`."""
    with needs("train"):
        from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=1000)


def nearest_centroid() -> Any:
    """scikit-learn's classifier by the nearest mean of a class."""
    with needs("train"):
        from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


def fitted_scores(
    tasks: MetaVQATasks, make: Callable[[], Any], shots: int | None = None, seed: int = 0
) -> Scores:
    """Score a classifier that is fitted to the examples of each task, on the image embeddings at unit length.

    Args:
        tasks: T tasks of a split.
        make: () → a classifier of scikit-learn, with `fit` and `predict`.
        shots: examples of each class, the same ones as every other method takes; None stands for all.
        seed: of the choice of examples.

    Returns:
        The query accuracy of every task.
    """
    accuracy, count = torch.zeros(len(tasks)), torch.zeros(len(tasks))
    for row in range(len(tasks)):
        batch = few_shots(tasks.batch([row]), torch.tensor([row]), shots, seed)
        (inputs, labels), (query, truths) = _arrays(batch.support), _arrays(batch.query)
        if (labels == labels[0]).all():  # scikit-learn refuses to fit a single class
            right = truths == labels[0]
        else:
            # With one example of each class, NearestCentroid divides by 0 for a deviation that it does not use.
            with np.errstate(divide="ignore", invalid="ignore"):
                right = make().fit(inputs, labels).predict(query) == truths
        accuracy[row], count[row] = float(right.mean()), len(truths)
    return Scores(accuracy, count)


def _arrays(examples: Examples) -> tuple[Any, Any]:
    """The examples of a single task, without padding, as arrays (N, E) and (N,)."""
    kept = examples.labels[0] != PADDING_LABEL
    inputs = nn.functional.normalize(examples.inputs[0, kept], dim=-1)
    return inputs.cpu().numpy(), examples.labels[0, kept].cpu().numpy()


def fine_tuned_scores(
    network: FunctionalNetwork,
    hypernet: Hypernetwork,
    tasks: MetaVQATasks,
    shots: int | None = None,
    *,
    steps: int,
    lr: float,
    inner_variable: str = "weights",
    seed: int = 0,
) -> Scores:
    """Score gradient descent on the examples of each task, from the start that `hypernet` gives.

    Args:
        network: the base network.
        hypernet: gives the start; see `fine_tune`.
        tasks: T tasks.
        shots: examples of each class; None stands for all.
        steps: gradient steps; 0 scores the start.
        lr: step size.
        inner_variable: what the steps change, "weights" or "latents".
        seed: of the choice of examples.

    Raises:
        InputError: the steps diverge.
    """

    def tuned(batch: TaskBatch, _: Tensor) -> Tensor:
        return fine_tune(network, hypernet, batch, steps=steps, lr=lr, inner_variable=inner_variable)

    return shot_curve(network, tasks, tuned, [shots], [seed])[shots][0]


def one_pass_scores(
    network: FunctionalNetwork,
    hypernet: SupportHNet,
    tasks: MetaVQATasks,
    shots: int | None = None,
    seed: int = 0,
) -> Scores:
    """Score weights that a hypernetwork writes from the examples of each task in one pass; see `fine_tuned_scores`."""

    def written(batch: TaskBatch, _: Tensor) -> Tensor:
        return hypernet(batch.support, batch.context["answers"])

    return shot_curve(network, tasks, written, [shots], [seed])[shots][0]


def shuffled_questions(embeds: Tensor, seed: int = 0) -> Tensor:
    """A control: give every task the question of another one, with shape (T, E); a random order is rotated by one."""
    order = torch.randperm(len(embeds), generator=torch.Generator().manual_seed(seed)).to(embeds.device)
    return embeds.index_copy(0, order, embeds[order.roll(1)])


def nearest_questions(known: Tensor, embeds: Tensor, k: int = 1) -> Tensor:
    """Find the known questions (T, E) that are most similar to others (B, E), by the cosine of centred embeddings.

    Returns:
        Their rows, the most similar one first, with shape (B, k).

    Raises:
        InputError: k is less than 1, or more than there are known questions.
    """
    if not 1 <= k <= len(known):
        raise InputError(f"expected from 1 to {len(known)} neighbours, as many as known questions, got {k}")
    middle, unit = known.mean(dim=0), nn.functional.normalize
    cosine = unit(embeds - middle, dim=-1) @ unit(known - middle, dim=-1).mT
    return cosine.topk(k, dim=-1).indices


def nearest_question_weights(weights: Tensor, known: Tensor, embeds: Tensor) -> Tensor:
    """All draws of the weights (R, T, P) of the most similar known question, with shape (B, R, P)."""
    return weights[:, nearest_questions(known, embeds)[:, 0]].transpose(0, 1)


def neighbours_average(weights: Tensor, known: Tensor, embeds: Tensor, k: int) -> Tensor:
    """Average the weights of the k most similar known questions.

    Args:
        weights: of the known tasks, averaged over draws, with shape (T, P).
        known: embeddings of their questions, with shape (T, E).
        embeds: questions of new tasks, with shape (B, E).
        k: how many.

    Returns:
        Weights, with shape (B, P).

    Raises:
        InputError: see `nearest_questions`.
    """
    rows = nearest_questions(known, embeds, k)
    # As a product: picking the rows first would need B k P numbers.
    share = torch.zeros(len(embeds), len(known), device=weights.device).scatter(1, rows, 1 / k)
    return share.to(weights) @ weights


def mean_weights(weights: Tensor) -> Tensor:
    """The mean of all known weights (*, P), with shape (P,)."""
    return weights.flatten(0, -2).mean(dim=0)
