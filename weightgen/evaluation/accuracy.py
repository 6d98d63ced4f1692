"""Accuracy on few-shot tasks as in the paper: on the query examples of each task, averaged over tasks.

Notation: T tasks of a split, B tasks of a batch, K networks per task, N examples, C answers, P weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.metrics import count_correct, whole_pictures
from weightgen.protocols import TaskSource
from weightgen.tasks import PADDING_LABEL, TaskBatch, batches
from weightgen.weights import FunctionalNetwork

WeightsOf = Callable[[TaskBatch, Tensor], Tensor]
"""(batch of B tasks, their numbers in the split (B,)) → weights (B, P), or (B, K, P) for K networks per task."""


class Scores(NamedTuple):
    """Query accuracy of every task of a split.

    Attributes:
        accuracy: of each task, averaged over K networks, with shape (T,).
        examples: number of query examples, with shape (T,).
    """

    accuracy: Tensor
    examples: Tensor

    @property
    def macro(self) -> float:
        """Mean over tasks of per-task accuracy (the paper's figure)."""
        return self.accuracy.mean().item()

    @property
    def micro(self) -> float:
        """Accuracy over all examples of all tasks."""
        return ((self.accuracy * self.examples).sum() / self.examples.sum()).item()


@torch.no_grad()
def evaluate(
    network: FunctionalNetwork, tasks: TaskSource, weights_of: WeightsOf, batch_size: int = 64
) -> Scores:
    """Score the networks with the weights that `weights_of` gives, on the query sets of a split.

    Raises:
        InputError: weights or logits of a task are not finite, or a label is not the number of one of its
            answers.
    """

    def logits_of(batch: TaskBatch, rows: Tensor) -> Tensor:
        weights = weights_of(batch, rows)
        check_tasks_finite(weights, rows, "weights")
        return network(weights, batch.query.inputs, **batch.context)

    return _scores(tasks, logits_of, batch_size)


def task_streams(tasks: int, seed: int = 0) -> list[Generator]:
    """Sources of randomness, one for each of T tasks: what is drawn for a task depends on the seed and its number, not on other tasks."""
    return [Generator().manual_seed(seed * 1_000_003 + row) for row in range(tasks)]


@torch.no_grad()
def zero_shot(
    pipe: Any,
    tasks: MetaVQATasks,
    embeds: Tensor | None = None,
    support_embeds: Tensor | None = None,
    *,
    seed: int = 0,
    num_samples: int = 1,
    **sampling: Any,
) -> Scores:
    """Score weights that a pipeline samples for the tasks of a split.

    Each task has a random stream of its own, so its samples do not depend on the other tasks.

    Args:
        pipe: a `WeightPipeline`.
        tasks: T tasks.
        embeds: embeddings of questions to sample for, with shape (T, E). Without them and without support
            embeddings, those of the tasks.
        support_embeds: embeddings of support sets, with shape (T, D).
        seed: seed of the samples.
        num_samples: K; accuracy is the mean over the samples of a task.
        **sampling: further arguments of `WeightPipeline.sample`, such as guidance_scale.
    """
    if embeds is None and support_embeds is None:
        embeds = tasks.embeds
    weights, _ = pipe.sample(
        embeds,
        support_embeds=support_embeds,
        num_samples=num_samples,
        generator=task_streams(len(tasks), seed),
        **sampling,
    )
    return evaluate(pipe.network, tasks, lambda _, rows: weights[rows])


@torch.no_grad()
def encoder_scores(tasks: MetaVQATasks, batch_size: int = 64) -> Scores:
    """Score the encoder alone: it chooses the answer whose embedding has the largest cosine with the image's."""

    def cosines(batch: TaskBatch, _: Tensor) -> Tensor:
        answers = batch.context["answers"]
        pictures = whole_pictures(batch.query.inputs, answers.shape[-1])
        found = normalize(pictures, dim=-1) @ normalize(answers, dim=-1).mT
        return found.masked_fill(~batch.context["answer_mask"][:, None], -2.0)

    return _scores(tasks, cosines, batch_size)


def chance_scores(tasks: MetaVQATasks) -> Scores:
    """Score uniform guessing among a task's answers."""
    count = [int((tasks.batch([row]).query.labels >= 0).sum()) for row in range(len(tasks))]
    return Scores(torch.tensor([1 / len(answers) for answers in tasks.answers]), torch.tensor(count).float())


def check_tasks_finite(values: Tensor, rows: Sequence[int] | Tensor, name: str) -> None:
    """Refuse NaN and infinite numbers, which `argmax` takes for the first answer.

    Args:
        values: with shape (B, *).
        rows: numbers of the B tasks.
        name: of the values.

    Raises:
        InputError: naming the first such task.
    """
    if not values.isfinite().all():
        wrong = int((~values.isfinite().flatten(1).all(dim=1)).nonzero()[0])
        raise InputError(
            f"the {name} of task {int(rows[wrong])} hold NaN or infinite numbers: they have no accuracy"
        )


def check_labels(batch: TaskBatch, rows: Sequence[int], classes: int = 0) -> None:
    """Refuse tasks whose query set is empty or has labels that are not numbers of answers.

    Args:
        batch: B tasks.
        rows: their numbers.
        classes: C, where the context has no `answer_mask` that says how many answers a task has.

    Raises:
        InputError: naming the first such task.
    """
    labels = batch.query.labels
    count = torch.full_like(labels[:, :1], classes)
    if "answer_mask" in batch.context:
        count = batch.context["answer_mask"].sum(dim=1, keepdim=True)
    wrong = (labels != PADDING_LABEL) & ((labels < 0) | (labels >= count))
    if bool(wrong.any()):
        task, place = wrong.nonzero()[0].tolist()
        raise InputError(
            f"task {rows[task]} has the label {int(labels[task, place])}, expected 0 to {int(count[task]) - 1}: "
            "one number for each of its answers"
        )
    if len(empty := (labels == PADDING_LABEL).all(dim=1).nonzero()):
        raise InputError(f"task {rows[int(empty[0])]} has no query examples: leave it out of the split")


def _scores(tasks: TaskSource, logits_of: Callable[[TaskBatch, Tensor], Tensor], batch_size: int) -> Scores:
    """Scores of logits (B, N, C) or (B, K, N, C), in batches of tasks of similar size."""
    accuracy, examples = torch.zeros(len(tasks)), torch.zeros(len(tasks))
    for rows in batches(tasks.sizes, batch_size):
        batch = tasks.batch(rows)
        if masked := "answer_mask" in batch.context:
            check_labels(batch, rows)
        logits, labels = logits_of(batch, torch.tensor(rows)), batch.query.labels
        if not masked:
            check_labels(batch, rows, logits.shape[-1])
        check_tasks_finite(logits, rows, "logits")
        if logits.ndim == 4:
            labels = labels[:, None].expand(logits.shape[:-1])
        right, count = count_correct(logits, labels)
        found = right / count.clamp_min(1)
        accuracy[rows] = (found if found.ndim == 1 else found.mean(dim=1)).cpu()
        examples[rows] = (count if count.ndim == 1 else count[:, 0]).float().cpu()
    return Scores(accuracy, examples)
