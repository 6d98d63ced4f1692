"""Adaptation: the loss after k gradient steps on the support set. k = 0 is multitask training, k > 0 is MAML.

With `SharedWeights` this is unconditional multitask and MNet-MAML, with an `HNet` on the question Cond. Multitask. Where the latent is
adapted in place of the weights, it is HNet-MAML: unconditional from a learned start, conditional from the question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from weightgen.descent import descend
from weightgen.errors import InputError
from weightgen.protocols import Hypernetwork, Outcome
from weightgen.scores import resplit, task_accuracy, task_loss
from weightgen.tasks import Examples, TaskBatch
from weightgen.weight_space import WeightSpace


def adapt(
    space: WeightSpace,
    network: nn.Module,
    start: Tensor,
    support: Examples,
    context: dict[str, Tensor],
    *,
    steps: int | Tensor,
    lr: float,
    first_order: bool = True,
    decode: Callable[[Tensor], Tensor] | None = None,
    checkpoint_steps: bool = False,
) -> Tensor:
    """Fine-tune one point per task, weights or a latent, by full-batch gradient descent on its support set.

    Args:
        space: the weight space of `network`.
        network: the base network.
        start: weights (B, P), or latents (B, Z) if there is `decode`.
        support: examples of B tasks.
        context: further inputs of the network, with shape (B, ...).
        steps: gradient steps, one number or one per task (B,).
        lr: step size.
        first_order: whether the result counts its own slopes as constants when it is differentiated.
        decode: a hypernetwork, latent (Z,) → weights (P,).
        checkpoint_steps: whether the second order keeps a step's starting point only and computes the rest again; see `descend`.

    Returns:
        Adapted points, with the shape of `start`.
    """

    def loss(point: Tensor, examples: Examples, extra: dict[str, Tensor]) -> Tensor:
        weights = point if decode is None else decode(point)
        return task_loss(space.call(network, weights, examples.inputs, **extra), examples.labels)

    return descend(
        loss, start, support, context,
        steps=steps, lr=lr, first_order=first_order, checkpoint_steps=checkpoint_steps,
    )  # fmt: skip


def check_point(hypernet: Hypernetwork, point: str) -> None:
    """Refuse to adapt what is not there.

    Raises:
        InputError: `point` is neither "weights" nor "latents", or the hypernetwork has no latents to start at.
    """
    if point not in ("weights", "latents"):
        raise InputError(f"point must be 'weights' or 'latents', got {point!r}")
    if point == "latents" and not hasattr(hypernet, "starts"):
        raise InputError(
            f"{type(hypernet).__name__} has no latents to adapt: write point=weights, or use an HNet"
        )


def starting_points(
    hypernet: Any, embeds: Tensor, point: str
) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
    """Where adaptation of `point` starts for descriptions (B, E), and what turns the result into weights: `adapt`'s `decode`.

    Returns:
        Weights (B, P) and None, or latents (B, Z) and the hypernetwork.
    """
    return (hypernet(embeds), None) if point == "weights" else (hypernet.starts(embeds), hypernet)


class Adaptation(nn.Module):
    """L = mean over tasks of the query loss of w_k, where w_0 = h(embeds) and w_{i+1} = w_i − α ∇ loss(w_i, support).

    With `point="latents"` it is w_k = h(z_k), where z_0 = h.starts(embeds) and z_{i+1} = z_i − α ∇ loss(h(z_i), support).

    Support and query are drawn anew from a task's examples in every step. Without inner steps all examples are learned from.

    References:
        Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017; Nava, Kobayashi et al., 2023,
        algorithms 2 to 4 and table 3 (0 to 10 inner steps, drawn per task; α = 0.01 for weights, 0.1 for latents).

    Args:
        network: the base network.
        hypernet: embeds (B, E) → weights (B, P).
        least_steps: fewest inner steps.
        most_steps: most inner steps; the number is drawn uniformly for each task.
        inner_lr: α.
        first_order: first-order MAML.
        support_fraction: share of the examples that the inner steps see.
        point: what the inner steps change, "weights" or "latents"; for latents the hypernetwork needs a method `starts`, as `HNet`.
        checkpoint_steps: whether the second order computes the activations of inner steps again instead of keeping them, which takes
            less memory and more time.

    Raises:
        InputError: another `point`, latents of a hypernetwork that has none, or step numbers out of order.
    """

    def __init__(
        self,
        network: nn.Module,
        hypernet: Hypernetwork,
        least_steps: int = 0,
        most_steps: int = 0,
        inner_lr: float = 0.01,
        first_order: bool = False,
        support_fraction: float = 0.5,
        point: str = "weights",
        checkpoint_steps: bool = False,
    ) -> None:
        super().__init__()
        check_point(hypernet, point)
        if not 0 <= least_steps <= most_steps:
            raise InputError(
                f"expected 0 <= least_steps <= most_steps inner steps, got {least_steps} and {most_steps}"
            )
        self.hypernet = hypernet
        # The base network's own parameters are never trained: they are hidden from the optimiser and from data parallelism.
        self._network = (network,)
        self.least_steps, self.most_steps = least_steps, most_steps
        self.inner_lr = inner_lr
        self.first_order = first_order
        self.support_fraction = support_fraction
        self.point = point
        self.checkpoint_steps = checkpoint_steps

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        (network,) = self._network
        space = self.hypernet.space
        start, decode = starting_points(self.hypernet, batch.embeds, self.point)
        batch = resplit(batch, self.support_fraction if self.most_steps else 0.0)
        if self.most_steps:
            steps = torch.randint(self.least_steps, self.most_steps + 1, (len(start),), device=start.device)
            start = adapt(
                space, network, start, batch.support, batch.context,
                steps=steps, lr=self.inner_lr, first_order=self.first_order, decode=decode,
                checkpoint_steps=self.checkpoint_steps,
            )  # fmt: skip
        weights = start if decode is None else decode(start)
        logits = space.call_batch(network, weights, batch.query.inputs, **batch.context)
        loss = task_loss(logits, batch.query.labels).mean()
        right, count = task_accuracy(logits, batch.query.labels)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": (right / count.clamp_min(1)).mean()})
