"""Accuracy on few-shot tasks, the paper's way: of each task's query examples, then averaged over tasks.

Notation: T tasks of a split, B tasks of a batch, K networks per task, P weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.metrics import count_correct
from weightgen.tasks import TaskBatch, batches
from weightgen.weights import WeightSpace

WeightsOf = Callable[[TaskBatch, Tensor], Tensor]
"""(batch of B tasks, their numbers in the split (B,)) → weights (B, P), or (B, K, P) for K networks per task."""


class Scores(NamedTuple):
    """Query accuracy of every task of a split.

    Attributes:
        right: share of right predictions, averaged over K networks, with shape (T,).
        examples: query examples, with shape (T,).
    """

    right: Tensor
    examples: Tensor

    @property
    def macro(self) -> float:
        """Mean over tasks of per-task accuracy (the paper's figure)."""
        return self.right.mean().item()

    @property
    def micro(self) -> float:
        """Share of all examples of all tasks."""
        return ((self.right * self.examples).sum() / self.examples.sum()).item()


@torch.no_grad()
def evaluate(
    space: WeightSpace, network: nn.Module, tasks: MetaVQATasks, weights_of: WeightsOf, batch_size: int = 64
) -> Scores:
    """Score the networks that `weights_of` gives on the query sets of a split, in batches of tasks of similar size."""
    right = torch.zeros(len(tasks))
    count = torch.zeros(len(tasks))
    for rows in batches(tasks.sizes, batch_size):
        batch = tasks.batch(rows)
        weights = weights_of(batch, torch.tensor(rows))
        logits = space.call_batch(network, weights, batch.query.inputs, **batch.context)
        labels = (
            batch.query.labels
            if weights.ndim == 2
            else batch.query.labels[:, None].expand(-1, weights.shape[1], -1)
        )
        hits, examples = count_correct(logits, labels)
        share = hits / examples.clamp_min(1)
        right[rows] = (share if share.ndim == 1 else share.mean(dim=1)).cpu()
        count[rows] = (examples if examples.ndim == 1 else examples[:, 0]).float().cpu()
    return Scores(right, count)


@torch.no_grad()
def clip_scores(tasks: MetaVQATasks, batch_size: int = 64) -> Scores:
    """The base model without an adapter: the answer whose embedding has the largest cosine with the image's."""
    right = torch.zeros(len(tasks))
    count = torch.zeros(len(tasks))
    for rows in batches(tasks.sizes, batch_size):
        batch = tasks.batch(rows)
        unit = nn.functional.normalize
        cosine = unit(batch.query.inputs, dim=-1) @ unit(batch.context["answers"], dim=-1).mT
        hits, examples = count_correct(
            cosine.masked_fill(~batch.context["answer_mask"][:, None], -2.0), batch.query.labels
        )
        right[rows], count[rows] = (hits / examples.clamp_min(1)).cpu(), examples.float().cpu()
    return Scores(right, count)


def chance_scores(tasks: MetaVQATasks) -> Scores:
    """Guessing uniformly among a task's answers."""
    count = [int((tasks.batch([row]).query.labels >= 0).sum()) for row in range(len(tasks))]
    return Scores(torch.tensor([1 / len(answers) for answers in tasks.answers]), torch.tensor(count).float())
