"""Curves: accuracy against the number of gradient steps, and against the number of labelled examples.

Notation: T tasks of a split, B tasks of a batch, N examples, P weights, Z latent, D support embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weightgen.adaptation import fine_tune
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation.accuracy import Scores, WeightsOf, evaluate
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.protocols import Hypernetwork
from weightgen.shots import drop_padding, keep_shots, shot_order
from weightgen.tasks import TaskBatch
from weightgen.weights import FunctionalNetwork


def step_curve(
    network: FunctionalNetwork,
    tasks: MetaVQATasks,
    hypernet: Hypernetwork | None = None,
    steps: Sequence[int] = (0, 1, 5, 10, 50),
    lr: float = 0.01,
    *,
    inner_variable: str = "weights",
    start_of: WeightsOf | None = None,
) -> dict[int, Scores]:
    """Query scores after gradient steps on the whole support set, by the number of steps.

    Args:
        network: the base network.
        tasks: T tasks.
        hypernet: gives the start; see `fine_tune`.
        steps: the numbers of steps.
        lr: step size.
        inner_variable: what the steps change, "weights" or "latents".
        start_of: (batch, numbers of its tasks) → weights (B, P) or latents (B, Z) to start at, in place of
            the hypernetwork's own; for example weights that a prior sampled for the question.

    Raises:
        InputError: negative steps, or see `fine_tune`.
    """
    if min(steps, default=-1) < 0:
        raise InputError(f"expected numbers of steps from 0 up, got {list(steps)}")

    def scores(count: int) -> Scores:
        def weights(batch: TaskBatch, rows: Tensor) -> Tensor:
            start = start_of(batch, rows) if start_of else None
            return fine_tune(
                network, hypernet, batch, steps=count, lr=lr, inner_variable=inner_variable, start=start
            )

        return evaluate(network, tasks, weights)

    return {count: scores(count) for count in steps}


def shot_curve(
    network: FunctionalNetwork,
    tasks: MetaVQATasks,
    weights_of: WeightsOf,
    shots: Sequence[int | None] = (1, 2, 5, 10, None),
    seeds: Sequence[int] = (0,),
) -> dict[int | None, list[Scores]]:
    """Query scores of weights from at most n support examples of each class, by n and then by seed of the choice.

        shot_curve(network, tasks, lambda batch, _: fine_tune(network, hypernet, batch, steps=50, lr=0.01))
        shot_curve(network, tasks, lambda batch, _: support_hnet(batch.support, batch.context["answers"]))

    Args:
        network: the base network.
        tasks: T tasks; their query sets stay as they are.
        weights_of: (batch with small support sets, numbers of its tasks) → weights (B, P).
        shots: the numbers n; None for all examples.
        seeds: seeds of the choice of examples.

    Raises:
        InputError: no or negative shots.
    """
    if not shots or min((count for count in shots if count is not None), default=0) < 0:
        raise InputError(f"expected numbers of shots from 0 up, or None for all, got {list(shots)}")

    def scores(count: int | None, seed: int) -> Scores:
        def weights(batch: TaskBatch, rows: Tensor) -> Tensor:
            return weights_of(few_shots(batch, rows, count, seed), rows)

        return evaluate(network, tasks, weights)

    return {count: [scores(count, seed) for seed in seeds] for count in shots}


def few_shots(batch: TaskBatch, rows: Tensor, shots: int | None, seed: int) -> TaskBatch:
    """The batch with at most `shots` support examples of each class, chosen by seed and task; None keeps all."""
    order = shot_order(batch, rows, seed)
    return batch._replace(support=drop_padding(keep_shots(batch.support, shots, order)))


@torch.no_grad()
def embed_shots(encoder: SupportHNet, tasks: MetaVQATasks, shots: int | None, seed: int = 0) -> Tensor:
    """Support embeddings (T, D) of at most `shots` support examples of each class of every task; None takes all."""
    batch = few_shots(tasks.batch(), torch.arange(len(tasks)), shots, seed)
    return encoder.encode(batch.support, batch.context["answers"])
