"""One pass: the loss on the query set of the weights that a support set gives, with support sets of all sizes.

Notation: B tasks, N examples, C classes.
"""

from __future__ import annotations

from torch import nn

from weightgen.errors import InputError
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.metrics import count_correct, task_loss
from weightgen.protocols import Outcome
from weightgen.shots import draw_support
from weightgen.tasks import TaskBatch


class SupportSetLoss(nn.Module):
    """L = mean over tasks of the query loss of w = h(support), where support and query are drawn anew in every step.

    The logits are divided by a temperature first: on CLIP's scale of 100 the cross-entropy tells sure answers from unsure ones more than
    right ones from wrong ones, and asks for weights that hardly move. Accuracy does not depend on it.

    Args:
        network: the base network.
        hypernet: support sets → weights.
        max_shots: see `draw_support`.
        temperature: of the loss.

    Raises:
        InputError: fewer than one shot, or a temperature that is not positive.
    """

    def __init__(
        self, network: nn.Module, hypernet: SupportHNet, max_shots: int = 12, temperature: float = 10.0
    ) -> None:
        super().__init__()
        self.hypernet = hypernet
        # The base network's own parameters are never trained: they are hidden from the optimiser and from data parallelism.
        self._network = (network,)
        if max_shots < 1 or not temperature > 0:
            raise InputError(
                f"expected shots from 1 up and a temperature above 0, got {max_shots}, {temperature}"
            )
        self.max_shots = max_shots
        self.temperature = temperature

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        (network,) = self._network
        batch = draw_support(batch, self.max_shots)
        weights = self.hypernet(batch.support, batch.context["answers"])
        logits = self.hypernet.space.call_batch(network, weights, batch.query.inputs, **batch.context)
        loss = task_loss(logits / self.temperature, batch.query.labels).mean()
        right, count = count_correct(logits, batch.query.labels)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": (right / count.clamp_min(1)).mean()})
