"""Curves: accuracy against the number of labelled examples, and against the number of gradient steps from a given point.

Notation: T tasks of a split, B tasks of a batch, N examples, P weights, Z latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from weightgen.adaptation import adapt
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation.accuracy import Scores, WeightsOf, evaluate
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.shots import keep_shots, shot_order
from weightgen.tasks import TaskBatch
from weightgen.weights import WeightSpace

ALL = 1_000_000  # shots: more examples than any class has


def _tuned(
    space: WeightSpace,
    network: nn.Module,
    batch: TaskBatch,
    start: Tensor,
    steps: int,
    lr: float,
    decode: Callable[[Tensor], Tensor] | None,
) -> Tensor:
    """Weights (B, P) after `steps` on the support sets, from weights or latents."""
    if start.ndim != 2:
        raise InputError(
            f"adaptation starts at one point per task, (B, P) or (B, Z), got {tuple(start.shape)}"
        )
    found = adapt(space, network, start, batch.support, batch.context, steps=steps, lr=lr, decode=decode)
    if not found.isfinite().all():
        raise InputError(
            f"adaptation with {steps} steps of {lr} diverged: give a smaller step size, {lr / 3:.2g}"
        )
    return found if decode is None else decode(found)


def step_curve(
    space: WeightSpace,
    network: nn.Module,
    tasks: MetaVQATasks,
    start_of: WeightsOf,
    steps: Sequence[int] = (0, 1, 5, 10, 50),
    lr: float = 0.01,
    decode: Callable[[Tensor], Tensor] | None = None,
) -> dict[int, Scores]:
    """Query scores after gradient steps on the whole support set, by their number.

    Start at weights that a prior sampled for the question, and zero-shot weights are the initialisation; start at MAML's to compare.

    Args:
        space: the weight space of `network`.
        network: the base network.
        tasks: T tasks.
        start_of: (batch, numbers of its tasks) → weights (B, P), or latents (B, Z) if there is `decode`.
        steps: the numbers.
        lr: step size.
        decode: a hypernetwork, latents (*, Z) → weights (*, P).

    Raises:
        InputError: negative steps, several starting points per task, or adaptation diverges.
    """
    if min(steps, default=-1) < 0:
        raise InputError(f"expected numbers of steps from 0 up, got {list(steps)}")

    def scores(count: int) -> Scores:
        def weights(batch: TaskBatch, rows: Tensor) -> Tensor:
            return _tuned(space, network, batch, start_of(batch, rows), count, lr, decode)

        return evaluate(space, network, tasks, weights)

    return {count: scores(count) for count in steps}


def shot_curve(
    space: WeightSpace,
    network: nn.Module,
    tasks: MetaVQATasks,
    start_of: WeightsOf,
    shots: Sequence[int] = (1, 2, 5, 10),
    steps: int = 50,
    lr: float = 0.01,
    seeds: Sequence[int] = (0,),
    decode: Callable[[Tensor], Tensor] | None = None,
) -> dict[int, list[Scores]]:
    """Query scores after adaptation to at most n support examples of each class, by n and then by seed of the choice.

    Args:
        space: the weight space of `network`.
        network: the base network.
        tasks: T tasks; their query sets stay as they are.
        start_of: as in `step_curve`.
        shots: the numbers n; 0 leaves the starting point.
        steps: gradient steps.
        lr: step size.
        seeds: of the choice of examples.
        decode: as in `step_curve`.

    Raises:
        InputError: no or negative shots, several starting points per task, or adaptation diverges.
    """
    if min(shots, default=-1) < 0:
        raise InputError(f"expected numbers of shots from 0 up, got {list(shots)}")

    def scores(count: int, seed: int) -> Scores:
        def weights(batch: TaskBatch, rows: Tensor) -> Tensor:
            few = batch._replace(support=keep_shots(batch.support, count, shot_order(batch, rows, seed)))
            return _tuned(space, network, few, start_of(batch, rows), steps, lr, decode)

        return evaluate(space, network, tasks, weights)

    return {count: [scores(count, seed) for seed in seeds] for count in shots}


def one_pass_curve(
    network: nn.Module, tasks: MetaVQATasks, hypernet: SupportHNet, shots: Sequence[int], seed: int = 0
) -> dict[int, Scores]:
    """Query scores of weights written from at most n support examples of each class, by n.

    The examples are those that `shot_curve` takes with the same seed.

    Args:
        network: the base network.
        tasks: T tasks.
        hypernet: what writes the weights.
        shots: the numbers n, from 1 up.
        seed: of the choice of examples.

    Raises:
        InputError: no shots, or fewer than one.
    """
    if min(shots, default=0) < 1:
        raise InputError(f"expected numbers of shots from 1 up, got {list(shots)}")

    def scores(count: int) -> Scores:
        def weights(batch: TaskBatch, rows: Tensor) -> Tensor:
            few = keep_shots(batch.support, count, shot_order(batch, rows, seed))
            return hypernet(few, batch.context["answers"])

        return evaluate(hypernet.space, network, tasks, weights)

    return {count: scores(count) for count in shots}
