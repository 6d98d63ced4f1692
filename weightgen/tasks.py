"""Few-shot tasks as tensors, and batches of tasks of different sizes.

Notation: B tasks, N examples, C classes, E embedding.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from weightgen.errors import InputError, check_range, check_sizes

PADDING_LABEL = -100  # what torch's cross_entropy ignores
UNLABELED = -1  # the label of a support sample whose class is hidden


class Examples(NamedTuple):
    """Labelled examples.

    Attributes:
        inputs: with shape (B, N, *).
        labels: class numbers (int64), -100 for padding, with shape (B, N).
    """

    inputs: Tensor
    labels: Tensor


class TaskBatch(NamedTuple):
    """B tasks; a single task is the same without the dimension B.

    Attributes:
        support: the examples to adapt to.
        query: the examples to evaluate on.
        embeds: the description of each task, with shape (B, E).
        context: further inputs of the base network by name, with shape (B, ...); `{}` if there are none.
    """

    support: Examples
    query: Examples
    embeds: Tensor
    context: dict[str, Tensor]


def has_query(batch: TaskBatch) -> Tensor:
    """Which of B tasks have a query example, with shape (B,)."""
    return (batch.query.labels != PADDING_LABEL).any(dim=1)


def collate(tasks: Sequence[TaskBatch]) -> TaskBatch:
    """Stack single tasks, padded at the end to the largest: inputs and context with 0, labels with -100.

    Raises:
        InputError: there is no task, or the tasks do not fit together.
    """
    if not tasks:
        raise InputError("cannot make a batch of no tasks")
    keys = tasks[0].context.keys()
    if any(task.context.keys() != keys for task in tasks):
        raise InputError(f"all tasks of a batch need the same context, here {sorted(keys)}")
    return TaskBatch(
        support=_stack_examples([task.support for task in tasks]),
        query=_stack_examples([task.query for task in tasks]),
        embeds=torch.stack([task.embeds for task in tasks]),
        context={key: _stack_padded([task.context[key] for task in tasks], 0) for key in keys},
    )


def _stack_examples(parts: Sequence[Examples]) -> Examples:
    inputs = _stack_padded([part.inputs for part in parts], 0)
    return Examples(inputs, _stack_padded([part.labels for part in parts], PADDING_LABEL))


def _stack_padded(tensors: Sequence[Tensor], value: int) -> Tensor:
    if len({tensor.ndim for tensor in tensors}) > 1:
        raise InputError(f"cannot stack shapes {sorted({tuple(tensor.shape) for tensor in tensors})}")
    largest = [max(lengths) for lengths in zip(*(tensor.shape for tensor in tensors), strict=True)]
    stacked = tensors[0].new_full((len(tensors), *largest), value)
    for row, tensor in zip(stacked, tensors, strict=True):
        row[tuple(slice(length) for length in tensor.shape)] = tensor
    return stacked


def batches(sizes: Sequence[int], batch_size: int) -> list[list[int]]:
    """Batches of task numbers for evaluation: each task once, from the smallest to the largest.

    Raises:
        InputError: a batch size below 1.
    """
    check_sizes(batch_size=batch_size)
    order = np.argsort(np.asarray(sizes), kind="stable").tolist()
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def random_subset(tasks: int, fraction: float, seed: int = 0) -> list[int]:
    """Choose round(fraction · tasks) of the tasks at random; their numbers, in ascending order.

    With the same seed, a smaller subset is part of a larger one.

    Args:
        tasks: number of tasks.
        fraction: fraction of the tasks to choose, in (0, 1].
        seed: seed of the choice.

    Raises:
        InputError: the fraction is out of range, or so small that no task is chosen.
    """
    number = round(fraction * tasks)
    if not 0 < fraction <= 1 or not number:
        raise InputError(
            f"expected a fraction in (0, 1] that is at least one of {tasks} tasks, got {fraction}"
        )
    return sorted(np.random.default_rng(seed).permutation(tasks)[:number].tolist())


class TaskBatchSampler(Sampler[list[int]]):
    """Batches of tasks of similar size, so that little of a batch is padding.

    The batch of a step depends on (seed, step) only, so a run that resumes at `start_step` sees the same
    batches as an uninterrupted run. Each task comes exactly once in every epoch of `steps_per_epoch` steps.

    Args:
        sizes: the size of each task, for instance its number of examples.
        batch_size: tasks in a batch; one batch of each epoch may have fewer.
        steps: number of the step before which to stop; the length is `steps - start_step`.
        seed: seed of the order.
        start_step: number of the first step.
        jitter: standard deviation of a log-normal factor on the sizes, so that the neighbours of a task
            change from epoch to epoch.

    Raises:
        InputError: no tasks, a batch size below 1, or a negative number.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        steps: int,
        seed: int = 0,
        start_step: int = 0,
        jitter: float = 0.1,
    ) -> None:
        if len(sizes) == 0 or batch_size < 1:
            raise InputError(f"expected tasks and a batch size from 1 up, got {len(sizes)} and {batch_size}")
        check_range(seed=seed, steps=steps, start_step=start_step, jitter=jitter)
        self.sizes = np.asarray(sizes, dtype=np.float64)
        self.tasks_per_batch = batch_size
        self.steps = steps
        self.seed = seed
        self.start_step = start_step
        self.jitter = jitter

    @property
    def steps_per_epoch(self) -> int:
        """Batches in which every task comes once."""
        return -(-len(self.sizes) // self.tasks_per_batch)

    def epoch(self, number: int) -> list[list[int]]:
        """The batches of one epoch, in order."""
        rng = np.random.default_rng([self.seed, number])
        jittered = (self.sizes + 1) * np.exp(self.jitter * rng.standard_normal(len(self.sizes)))
        buckets = batches(jittered.tolist(), self.tasks_per_batch)
        return [buckets[i] for i in rng.permutation(len(buckets))]

    def __len__(self) -> int:
        return max(self.steps - self.start_step, 0)

    def __iter__(self) -> Iterator[list[int]]:
        number, skip = divmod(self.start_step, self.steps_per_epoch)
        left = len(self)
        while left > 0:
            for batch in self.epoch(number)[skip : skip + left]:
                left -= 1
                yield batch
            number, skip = number + 1, 0
