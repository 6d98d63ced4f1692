"""Adaptation: the loss after k gradient steps on the support set. k = 0 is multitask training, k > 0 is MAML.

With `SharedWeights` this is unconditional multitask and MNet-MAML, with an `HNet` on the question Cond. Multitask.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weightgen.descent import descend
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
) -> Tensor:
    """Fine-tune one weight vector per task by full-batch gradient descent on its support set.

    Args:
        space: the weight space of `network`.
        network: the base network.
        start: weights, with shape (B, P).
        support: examples of B tasks.
        context: further inputs of the network, with shape (B, ...).
        steps: gradient steps, one number or one per task (B,).
        lr: step size.
        first_order: whether the result counts its own slopes as constants when it is differentiated.

    Returns:
        Adapted weights, with shape (B, P).
    """

    def loss(weights: Tensor, examples: Examples, extra: dict[str, Tensor]) -> Tensor:
        return task_loss(space.call(network, weights, examples.inputs, **extra), examples.labels)

    return descend(loss, start, support, context, steps=steps, lr=lr, first_order=first_order)


class Adaptation(nn.Module):
    """L = mean over tasks of the query loss of w_k, where w_0 = h(embeds) and w_{i+1} = w_i − α ∇ loss(w_i, support).

    Support and query are drawn anew from a task's examples in every step. Without inner steps all examples are learned from.

    References:
        Finn et al., "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", 2017; Nava, Kobayashi et al., 2023,
        algorithms 2 to 4 and table 3 (0 to 10 inner steps, drawn per task; α = 0.01).

    Args:
        network: the base network.
        hypernet: embeds (B, E) → weights (B, P).
        least_steps: fewest inner steps.
        most_steps: most inner steps; the number is drawn uniformly for each task.
        inner_lr: α.
        first_order: first-order MAML.
        support_fraction: share of the examples that the inner steps see.
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
    ) -> None:
        super().__init__()
        self.hypernet = hypernet
        # The base network's own parameters are never trained: they are hidden from the optimiser and from data parallelism.
        self._network = (network,)
        self.least_steps, self.most_steps = least_steps, most_steps
        self.inner_lr = inner_lr
        self.first_order = first_order
        self.support_fraction = support_fraction

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        (network,) = self._network
        space, weights = self.hypernet.space, self.hypernet(batch.embeds)
        batch = resplit(batch, self.support_fraction if self.most_steps else 0.0)
        if self.most_steps:
            shape, device = (len(weights),), weights.device
            steps = torch.randint(self.least_steps, self.most_steps + 1, shape, device=device)
            weights = adapt(
                space, network, weights, batch.support, batch.context,
                steps=steps, lr=self.inner_lr, first_order=self.first_order,
            )  # fmt: skip
        logits = space.call_batch(network, weights, batch.query.inputs, **batch.context)
        loss = task_loss(logits, batch.query.labels).mean()
        right, count = task_accuracy(logits, batch.query.labels)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": (right / count.clamp_min(1)).mean()})
