"""Episodic training: write a network from the support set, and evaluate it on the query set."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor, nn

from weightgen.data.few_shot.episodes import Episodes
from weightgen.hypernets.support_writer import Generated, SupportWriter
from weightgen.metrics import task_accuracy, task_loss
from weightgen.nn.across_processes import shared_mean
from weightgen.protocols import Outcome
from weightgen.tasks import PADDING_LABEL, UNLABELED, Examples, TaskBatch, has_query


class EpisodicLoss(nn.Module):
    """L = mean over tasks of the cross-entropy on the query set of the CNN that the support set gives.

    Each unlabelled sample is hidden with the probability `hide`. The paper says that it must fall during
    training, or accuracy stays at chance, and gives no schedule; here the caller lowers it linearly
    (`annealed`). The released code draws a new rate between 0 and a constant in each step.

    References:
        Zhmoginov et al., "HyperTransformer", 2022, sections 3.2 and 4.3.

    Args:
        hypernet: support set → CNN: `HyperTransformer`, `ProtoNet` or `MAML`.
        transductive: whether the batch norms of the CNN use the statistics of the query set (as in the
            paper), or those of the support set.
    """

    def __init__(self, hypernet: SupportWriter, transductive: bool = True) -> None:
        super().__init__()
        self.hypernet = hypernet
        self.transductive = transductive
        self.hide = 0.0

    def logits(self, batch: TaskBatch) -> Tensor:
        """Logits of the query set, with shape (B, N, C)."""
        return self.classify(self.write(batch.support), batch.query)

    def write(self, support: Examples) -> Generated:
        """CNNs from support sets, for `classify`."""
        return self.hypernet.generate(support, moments=not self.transductive)

    def classify(self, made: Generated, query: Examples) -> Tensor:
        """Logits of a query set by CNNs that were written, with shape (B, N, C)."""
        present = query.labels != PADDING_LABEL
        return self.hypernet.network.run_batch(
            made.params,
            query.inputs,
            None if bool(present.all()) else present,
            None if self.transductive else made.moments,
        )

    def forward(self, batch: TaskBatch) -> Outcome:
        """Loss of a batch of B tasks, and its query accuracy."""
        if self.training and self.hide:
            batch = batch._replace(support=hide_unlabeled(batch.support, self.hide))
        real = has_query(batch)
        logits = self.logits(batch)
        loss = shared_mean(task_loss(logits, batch.query.labels), real)
        accuracy = shared_mean(task_accuracy(logits, batch.query.labels), real)
        return Outcome(loss, {"loss": loss.detach(), "accuracy": accuracy})


def hide_unlabeled(support: Examples, rate: float) -> Examples:
    """Drop each unlabelled sample with the probability `rate`, by torch's global randomness."""
    labels = support.labels
    hidden = (labels == UNLABELED) & (torch.rand(labels.shape, device=labels.device) < rate)
    return support._replace(labels=labels.masked_fill(hidden, PADDING_LABEL))


def annealed(step: int, start: float, until: int) -> float:
    """A straight line from `start` at step 0 to 0 at step `until`."""
    return start * max(0.0, 1 - step / until) if until else 0.0


@torch.no_grad()
def episode_accuracies(
    objective: EpisodicLoss, episodes: Episodes, count: int, query_batches: int = 1
) -> Tensor:
    """Query accuracy of each of the first `count` episodes, with shape (count,).

    Each is the mean over `query_batches` query sets, which are drawn and classified one after the other.
    """
    device = next(objective.parameters()).device
    found = []
    for step in range(-(-count // episodes.batch_size)):
        drawn = list(islice(episodes.batches(step, device), query_batches))
        made = objective.write(drawn[0].support)
        right = [task_accuracy(objective.classify(made, one.query), one.query.labels) for one in drawn]
        found.append(torch.stack(right).mean(dim=0))
    return torch.cat(found)[:count]
