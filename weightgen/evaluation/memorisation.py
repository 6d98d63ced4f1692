"""Memorisation: are sampled weights new, or copies of the training weights?

Notation: T tasks of a split, B tasks of a batch, K samples per task, M training weights, P weights, N
examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation.accuracy import evaluate
from weightgen.evaluation.baselines import mean_weights, nearest_question_weights
from weightgen.tasks import PADDING_LABEL
from weightgen.weights import FunctionalNetwork


class Nearest(NamedTuple):
    """The nearest training weights.

    Attributes:
        distance: Euclidean distance to them, with shape (*).
        row: their row among the training weights, with shape (*).
    """

    distance: Tensor
    row: Tensor


def nearest_weights(weights: Tensor, training: Tensor, chunk: int = 256) -> Nearest:
    """Find the training weights (M, P) nearest to each of `weights` (*, P).

    Raises:
        InputError: there are no training weights, or they are of another length.
    """
    if training.ndim != 2 or not len(training) or weights.shape[-1] != training.shape[-1]:
        raise InputError(
            f"cannot compare weights of shape {tuple(weights.shape)} with training weights of shape {tuple(training.shape)}"
        )
    flat, rows, distances = weights.reshape(-1, weights.shape[-1]), [], []
    middle = training.mean(dim=0)  # centred, the product below cancels less
    for part in flat.split(chunk):
        row = torch.cdist(part - middle, training - middle).argmin(dim=1)
        rows.append(row)
        distances.append((part - training[row]).norm(dim=-1))  # exact, where `cdist` is not near 0
    lead = weights.shape[:-1]
    return Nearest(torch.cat(distances).reshape(lead), torch.cat(rows).reshape(lead))


def training_spacing(training: Tensor) -> float:
    """Median distance of training weights (R draws, T tasks, P) to the nearest ones that were adapted to another task.

    A sample nearer to training weights than this is nearer than tasks are to each other.

    Raises:
        InputError: fewer than two tasks.
    """
    if training.ndim != 3 or training.shape[1] < 2:
        raise InputError(
            f"expected training weights (draws, tasks >= 2, weights), got shape {tuple(training.shape)}"
        )
    flat = training.flatten(0, 1)
    task = torch.arange(training.shape[1], device=flat.device).repeat(len(training))
    centred = flat - flat.mean(dim=0)
    found = []
    for rows in torch.arange(len(flat), device=flat.device).split(256):
        distance = torch.cdist(centred[rows], centred).masked_fill_(task[rows, None] == task, float("inf"))
        found.append((flat[rows] - flat[distance.argmin(dim=1)]).norm(dim=-1))
    return torch.cat(found).median().item()


def error_overlap(wrong: Tensor, others: Tensor) -> Tensor:
    """Maximum over others of |wrong ∩ other| / |wrong ∪ other|: 1 where another network makes exactly the same errors.

    A network without errors has no overlap with any.

    References:
        Wang et al., "Neural Network Diffusion", 2024 (similarity as intersection over union of wrong
        predictions).

    Args:
        wrong: which examples a network gets wrong, with shape (*, N).
        others: which examples M other networks get wrong, with shape (M, N).

    Returns:
        The overlap with the most similar one, with shape (*).
    """
    a, b = wrong.float(), others.float()
    both = a @ b.mT
    either = a.sum(dim=-1, keepdim=True) + b.sum(dim=-1) - both
    return (both / either.clamp_min(1)).amax(dim=-1)


@torch.no_grad()
def _error_overlaps(
    network: FunctionalNetwork, tasks: MetaVQATasks, weights: Tensor, training: Tensor
) -> Tensor:
    """Maximum error overlap of samples (T, K, P) with training weights (M, P) on their own task's queries, with shape (T, K)."""
    found = torch.zeros(weights.shape[:2])
    for row in range(len(tasks)):
        batch = tasks.batch([row])
        labels = batch.query.labels[0]
        every = torch.cat([weights[row], training])[None]
        logits = network(every, batch.query.inputs, **batch.context)[0]
        wrong = ((logits.argmax(dim=-1) != labels) & (labels != PADDING_LABEL)).cpu()
        mine, theirs = wrong.split([weights.shape[1], len(training)])
        found[row] = error_overlap(mine, theirs)
    return found


def noisy_neighbours(
    training: Tensor, training_embeds: Tensor, embeds: Tensor, noise: float, generator: torch.Generator
) -> Tensor:
    """The baseline "training weights plus noise": those of the task with the most similar question.

    Args:
        training: adapted weights, with shape (R draws, T tasks, P).
        training_embeds: their questions, with shape (T, E).
        embeds: questions of new tasks, with shape (B, E).
        noise: standard deviation of the noise, as a multiple of the standard deviation of each training
            weight.
        generator: source of the noise.

    Returns:
        Weights, with shape (B, R, P).
    """
    chosen = nearest_question_weights(training, training_embeds, embeds)
    drawn = torch.randn(chosen.shape, generator=generator).to(chosen)
    return chosen + noise * training.flatten(0, 1).std(dim=0) * drawn


def memorisation_report(
    network: FunctionalNetwork,
    tasks: MetaVQATasks,
    generators: Mapping[str, Tensor],
    training: Tensor,
    training_embeds: Tensor,
    noises: tuple[float, ...] = (0.0, 0.3, 1.0),
    seed: int = 0,
) -> dict[str, Any]:
    """Compare sampled weights with the weights that their generators were trained on, and with two baselines.

    Args:
        network: the base network.
        tasks: T tasks, held out from training.
        generators: samples (T, K, P) of each, by name.
        training: adapted weights, with shape (R, T', P).
        training_embeds: questions of the training tasks, with shape (T', E).
        noises: of the baseline `noisy_neighbours`.
        seed: of this noise.

    Returns:
        "spacing" (`training_spacing`) and "rows": by name the accuracy (mean over tasks), "distance" (to the
        nearest training weights, as a multiple of the spacing, mean), "copies" (share of samples nearer than
        a tenth of the spacing) and "error_overlap" (maximum error overlap, mean).

    Raises:
        InputError: samples of other shapes.
    """
    flat, embeds = training.flatten(0, 1), tasks.embeds
    spacing = training_spacing(training)
    generator = torch.Generator().manual_seed(seed)
    candidates = dict(generators)
    for name, weights in candidates.items():
        if weights.ndim != 3 or weights.shape[0] != len(tasks) or weights.shape[2] != network.space.size:
            raise InputError(
                f"expected samples of {name} with shape ({len(tasks)}, K, {network.space.size}), got {tuple(weights.shape)}"
            )
    candidates["mean of training weights"] = mean_weights(training).expand(len(tasks), 1, -1)
    for noise in noises:
        label = f"weights of the most similar question plus noise {noise:g}"
        candidates[label] = noisy_neighbours(training, training_embeds, embeds, noise, generator)

    def facts(weights: Tensor) -> dict[str, float]:
        distance = nearest_weights(weights, flat).distance / spacing
        return {
            "accuracy": evaluate(network, tasks, lambda _, index: weights[index]).macro,
            "distance": distance.mean().item(),
            "copies": (distance < 0.1).float().mean().item(),
            "error_overlap": _error_overlaps(network, tasks, weights, flat).mean().item(),
        }

    rows = {name: facts(weights) for name, weights in candidates.items()}
    return {"spacing": spacing, "training_weights": len(flat), "rows": rows}
