"""Adaptation: the loss after k gradient steps on the support set. k = 0 is multitask training, k > 0 is MAML.

With `SharedWeights` this is unconditional multitask and MNet-MAML, with an `HNet` on the question Cond.
Multitask. Where the latent is adapted in place of the weights, it is HNet-MAML: unconditional from a learned
start, conditional from the question.
"""

from __future__ import annotations

import torch
from torch import nn

from weightgen.adaptation import adapt, check_inner_variable, initial_points
from weightgen.errors import InputError, check_range
from weightgen.metrics import task_accuracy, task_loss
from weightgen.nn.across_processes import shared_max, shared_mean
from weightgen.protocols import Hypernetwork, Outcome
from weightgen.shots import resplit
from weightgen.tasks import TaskBatch, has_query
from weightgen.weights import FunctionalNetwork


class AdaptationLoss(nn.Module):
    """L = mean over tasks of the query loss of w_k, where w_0 = h(embeds) and w_{i+1} = w_i − α ∇ loss(w_i, support).

    With `inner_variable="latents"` it is w_k = h(z_k), where z_0 = h.initial_latents(embeds) and z_{i+1} =
    z_i − α ∇ loss(h(z_i), support).

    Support and query are drawn anew from a task's examples in every step. Without inner steps, all examples
    are the query set.

    References:
        Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017; Nava,
        Kobayashi et al., 2023, algorithms 2 to 4 and table 3 (0 to 10 inner steps, drawn per task; α = 0.01
        for weights, 0.1 for latents).

    Args:
        network: the base network, as a function of its weights.
        hypernet: embeds (B, E) → weights (B, P).
        min_inner_steps: the number of inner steps is drawn uniformly for each task, from this one …
        max_inner_steps: … to this one.
        inner_lr: α.
        first_order: first-order MAML.
        support_fraction: fraction of the examples that the inner steps see.
        inner_variable: what the inner steps change, "weights" or "latents"; latents need a
            `LatentHypernetwork`.
        checkpoint_steps: see `gradient_descent`.

    Raises:
        InputError: another `inner_variable`, latents of a hypernetwork that has none, or step numbers out of
            order.
    """

    def __init__(
        self,
        network: FunctionalNetwork,
        hypernet: Hypernetwork,
        min_inner_steps: int = 0,
        max_inner_steps: int = 0,
        inner_lr: float = 0.01,
        first_order: bool = False,
        support_fraction: float = 0.5,
        inner_variable: str = "weights",
        checkpoint_steps: bool = False,
    ) -> None:
        super().__init__()
        check_range(inner_lr=inner_lr)
        check_range(0, 1, support_fraction=support_fraction)
        check_inner_variable(hypernet, inner_variable)
        if not 0 <= min_inner_steps <= max_inner_steps:
            raise InputError(
                f"expected 0 <= min_inner_steps <= max_inner_steps, got {min_inner_steps} and {max_inner_steps}"
            )
        self.hypernet = hypernet
        self.network = network
        self.min_inner_steps, self.max_inner_steps = min_inner_steps, max_inner_steps
        self.inner_lr = inner_lr
        self.first_order = first_order
        self.support_fraction = support_fraction
        self.inner_variable = inner_variable
        self.checkpoint_steps = checkpoint_steps

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        real = has_query(batch)
        point, decode = initial_points(self.hypernet, batch.embeds, self.inner_variable)
        batch = resplit(batch, self.support_fraction if self.max_inner_steps else 0.0)
        if self.max_inner_steps:
            limits = (self.min_inner_steps, self.max_inner_steps + 1)
            steps = torch.randint(*limits, (len(point),), device=point.device)
            point = adapt(
                self.network,
                point,
                batch.support,
                batch.context,
                steps=steps,
                lr=self.inner_lr,
                first_order=self.first_order,
                decode=decode,
                checkpoint_steps=self.checkpoint_steps,
                rounds=shared_max(steps.max()),
            )
        weights = point if decode is None else decode(point)
        logits = self.network(weights, batch.query.inputs, **batch.context)
        loss = shared_mean(task_loss(logits, batch.query.labels), real)
        accuracy = shared_mean(task_accuracy(logits, batch.query.labels), real)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": accuracy})
