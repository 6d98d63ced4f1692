"""One pass: the loss on the query set of the weights that a support set gives, with support sets of all sizes.

Letters: B tasks, N examples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weightgen.data.task_features import MetaVQATasks
from weightgen.errors import InputError
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.protocols import Outcome
from weightgen.scores import resplit, subsample, task_accuracy, task_loss
from weightgen.tasks import PADDING_LABEL, TaskBatch, batches


class OnePass(nn.Module):
    """L = mean over tasks of the query loss of w = h(support), where support and query are drawn anew in every step.

    The logits are divided by a temperature first: on CLIP's scale of 100 the cross-entropy tells sure answers from unsure ones more than
    right ones from wrong ones, and asks for weights that hardly move. Accuracy does not depend on it.

    Args:
        network: the base network.
        hypernet: support sets → weights.
        most_shots: see `draw_support`.
        temperature: of the loss.

    Raises:
        InputError: fewer than one shot, or a temperature that is not positive.
    """

    def __init__(
        self, network: nn.Module, hypernet: SupportHNet, most_shots: int = 12, temperature: float = 10.0
    ) -> None:
        super().__init__()
        self.hypernet = hypernet
        # The base network's own parameters are never trained: they are hidden from the optimiser and from data parallelism.
        self._network = (network,)
        if most_shots < 1 or not temperature > 0:
            raise InputError(
                f"expected shots from 1 up and a temperature above 0, got {most_shots}, {temperature}"
            )
        self.most_shots = most_shots
        self.temperature = temperature

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        (network,) = self._network
        batch = draw_support(batch, self.most_shots)
        weights = self.hypernet(batch.support, batch.context["answers"])
        logits = self.hypernet.space.call_batch(network, weights, batch.query.inputs, **batch.context)
        loss = task_loss(logits / self.temperature, batch.query.labels).mean()
        right, count = task_accuracy(logits, batch.query.labels)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": (right / count.clamp_min(1)).mean()})


def draw_support(batch: TaskBatch, most_shots: int = 12, share: float = 0.7) -> TaskBatch:
    """Draw support sets of all sizes from all examples of each task, with torch's global randomness.

    The logarithm of the shots n of a task is uniform on [0, log(most + 1)), n rounded down, from 1. Half of the tasks have n examples of
    each class, as far as there are so many; the others a number for each class that is uniform on 0 … 2 n. All have one example at least.

    Args:
        batch: B tasks.
        most_shots: largest n.
        share: of the examples that may be drawn; the others are the query set.

    Returns:
        The same tasks, with disjoint sets, of which the support sets have lost their padding where no task needs it.
    """
    batch = resplit(batch, share)
    support, device = batch.support, batch.support.labels.device
    classes, rows = batch.context["answers"].shape[1], len(support.labels)
    n = (torch.rand(rows, 1, device=device) * torch.tensor(most_shots + 1.0).log()).exp().long()
    uneven = (torch.rand(rows, classes, device=device) * (2 * n + 1)).long()
    limits = torch.where(torch.rand(rows, 1, device=device) < 0.5, n, uneven)
    order = torch.rand(support.labels.shape, device=device)
    drawn = subsample(support, limits, order).labels
    none = (drawn == PADDING_LABEL).all(dim=1, keepdim=True)
    # One of each task is enough for those that have lost all.
    first = order.masked_fill(support.labels == PADDING_LABEL, 2.0).argmin(dim=1, keepdim=True)
    lone = torch.zeros_like(none).expand_as(drawn).scatter(1, first, none)
    drawn = torch.where(lone, support.labels, drawn)
    kept = (drawn != PADDING_LABEL).to(torch.int8).argsort(dim=1, descending=True, stable=True)
    kept = kept[:, : int((drawn != PADDING_LABEL).sum(dim=1).max())]
    index = kept.unsqueeze(-1).expand(-1, -1, support.inputs.shape[-1])
    return batch._replace(
        support=support._replace(inputs=support.inputs.gather(1, index), labels=drawn.gather(1, kept))
    )


@torch.no_grad()
def written(
    hypernet: SupportHNet,
    tasks: MetaVQATasks,
    draws: int,
    *,
    most_shots: int = 12,
    seed: int = 0,
    batch_size: int = 32,
    embed: bool = False,
) -> Tensor:
    """What R random support sets of each of T tasks give: weights (R, T, P), or support embeddings (R, T, D).

    Args:
        hypernet: what writes them.
        tasks: T tasks.
        draws: R.
        most_shots: see `draw_support`.
        seed: of the draws.
        batch_size: tasks at once.
        embed: whether embeddings are wanted.
    """
    size = hypernet.embed_dim if embed else hypernet.space.size
    found = torch.empty(draws, len(tasks), size, device=hypernet.base.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for draw in range(draws):
            for rows in batches(tasks.sizes, batch_size):
                batch = draw_support(tasks.batch(rows), most_shots)
                weights = hypernet(batch.support, batch.context["answers"])
                found[draw, rows] = hypernet.embed(weights) if embed else weights
    return found
