"""Adaptation: the loss after k gradient steps on the support set. k = 0 is multitask training, k > 0 is MAML.

With `SharedWeights` this is unconditional multitask and MNet-MAML, with an `HNet` on the question Cond. Multitask. Where the latent is
adapted in place of the weights, it is HNet-MAML: unconditional from a learned start, conditional from the question.
"""

from __future__ import annotations

import torch
from torch import nn

from weightgen.adaptation import adapt, check_point, initial_points
from weightgen.errors import InputError
from weightgen.metrics import count_correct, task_loss
from weightgen.protocols import Hypernetwork, Outcome
from weightgen.shots import resplit
from weightgen.tasks import TaskBatch


class AdaptationLoss(nn.Module):
    """L = mean over tasks of the query loss of w_k, where w_0 = h(embeds) and w_{i+1} = w_i − α ∇ loss(w_i, support).

    With `point="latents"` it is w_k = h(z_k), where z_0 = h.starts(embeds) and z_{i+1} = z_i − α ∇ loss(h(z_i), support).

    Support and query are drawn anew from a task's examples in every step. Without inner steps all examples are learned from.

    References:
        Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017; Nava, Kobayashi et al., 2023,
        algorithms 2 to 4 and table 3 (0 to 10 inner steps, drawn per task; α = 0.01 for weights, 0.1 for latents).

    Args:
        network: the base network.
        hypernet: embeds (B, E) → weights (B, P).
        min_steps: fewest inner steps.
        max_steps: most inner steps; the number is drawn uniformly for each task.
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
        min_steps: int = 0,
        max_steps: int = 0,
        inner_lr: float = 0.01,
        first_order: bool = False,
        support_fraction: float = 0.5,
        point: str = "weights",
        checkpoint_steps: bool = False,
    ) -> None:
        super().__init__()
        check_point(hypernet, point)
        if not 0 <= min_steps <= max_steps:
            raise InputError(
                f"expected 0 <= min_steps <= max_steps inner steps, got {min_steps} and {max_steps}"
            )
        self.hypernet = hypernet
        # The base network's own parameters are never trained: they are hidden from the optimiser and from data parallelism.
        self._network = (network,)
        self.min_steps, self.max_steps = min_steps, max_steps
        self.inner_lr = inner_lr
        self.first_order = first_order
        self.support_fraction = support_fraction
        self.point = point
        self.checkpoint_steps = checkpoint_steps

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        (network,) = self._network
        space = self.hypernet.space
        start, decode = initial_points(self.hypernet, batch.embeds, self.point)
        batch = resplit(batch, self.support_fraction if self.max_steps else 0.0)
        if self.max_steps:
            steps = torch.randint(self.min_steps, self.max_steps + 1, (len(start),), device=start.device)
            start = adapt(
                space, network, start, batch.support, batch.context,
                steps=steps, lr=self.inner_lr, first_order=self.first_order, decode=decode,
                checkpoint_steps=self.checkpoint_steps,
            )  # fmt: skip
        weights = start if decode is None else decode(start)
        logits = space.call_batch(network, weights, batch.query.inputs, **batch.context)
        loss = task_loss(logits, batch.query.labels).mean()
        right, count = count_correct(logits, batch.query.labels)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": (right / count.clamp_min(1)).mean()})
