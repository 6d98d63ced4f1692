"""The loss on the query set of weights that are written from the support set in one pass, with support sets of all sizes.

Notation: B tasks, N examples, C classes.
"""

from __future__ import annotations

from torch import nn

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.metrics import task_accuracy, task_loss
from weightgen.nn.across_processes import shared_mean
from weightgen.protocols import Outcome
from weightgen.shots import draw_support
from weightgen.tasks import TaskBatch, has_query
from weightgen.weights import FunctionalNetwork


class SupportSetLoss(nn.Module):
    """L = mean over tasks of the query loss of w = h(support), where support and query are drawn anew in every step.

    The logits are divided by a temperature first. At CLIP's scale of 100 the cross-entropy depends more on
    how confident the predictions are than on whether they are right, and training then hardly changes the
    weights. Accuracy does not depend on the temperature.

    Args:
        network: the base network, as a function of its weights.
        hypernet: support sets → weights.
        max_shots: see `draw_support`.
        temperature: of the loss.

    Raises:
        InputError: fewer than one shot, or a temperature that is not positive.
    """

    def __init__(
        self,
        network: FunctionalNetwork,
        hypernet: SupportHNet,
        max_shots: int = 12,
        temperature: float = 10.0,
    ) -> None:
        super().__init__()
        check_sizes(max_shots=max_shots)
        check_range(temperature=temperature)
        self.hypernet = hypernet
        self.network = network
        if not temperature:
            raise InputError("temperature must be above 0, got 0")
        self.max_shots = max_shots
        self.temperature = temperature

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        real = has_query(batch)
        batch = draw_support(batch, self.max_shots, shared=True)
        weights = self.hypernet(batch.support, batch.context["answers"])
        logits = self.network(weights, batch.query.inputs, **batch.context)
        loss = shared_mean(task_loss(logits / self.temperature, batch.query.labels), real)
        accuracy = shared_mean(task_accuracy(logits, batch.query.labels), real)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": accuracy})
