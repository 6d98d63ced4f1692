"""Tasks of one's own, in memory: any sequence of single tasks, read in batches as `MetaVQATasks` are.

Notation: T tasks, B tasks of a batch, N examples, E embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from weightgen.data.meta_vqa.rows import drawn
from weightgen.errors import InputError, check_sizes
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch, collate


class TaskList:
    """T tasks of any kind, such as a `torch.utils.data.Dataset` of them.

    Args:
        tasks: single tasks, each a `TaskBatch` without the dimension B.
        questions: a text about each task; by default `tasks.questions`, or else empty texts.

    Attributes:
        questions: the texts.
        meanings: empty texts: what a text means is not known.
        sizes: the number of examples of each task, support and query together.
        template: None: answers are in no statement.
        kept: the number of each task in the given sequence.
        network_options: arguments of a base network that follow from the data: none.

    Raises:
        InputError: no tasks, an item that is none, tasks that do not fit together, or another number of texts.
    """

    def __init__(self, tasks: Sequence[TaskBatch] | Any, questions: Sequence[str] | None = None) -> None:
        items = [tasks[row] for row in range(len(tasks))]
        if not items:
            raise InputError("expected at least one task, got none")
        for row, item in enumerate(items):
            if not isinstance(item, TaskBatch) or item.embeds.ndim != 1:
                what = type(item).__name__ if not isinstance(item, TaskBatch) else "a batch of tasks"
                raise InputError(
                    f"task {row} is {what}: expected a TaskBatch of one task, with embeds of shape (E,)"
                )
            if len(item.embeds) != len(items[0].embeds):
                raise InputError(
                    f"task {row} has an embedding of {len(item.embeds)} numbers, task 0 one of {len(items[0].embeds)}: expected one length"
                )
        self._all = collate(items)
        texts = getattr(tasks, "questions", None) if questions is None else questions
        self.questions = [""] * len(items) if texts is None else list(texts)
        if len(self.questions) != len(items):
            raise InputError(f"expected a text for each of {len(items)} tasks, got {len(self.questions)}")
        parts = (self._all.support, self._all.query)
        self.sizes: list[int] = sum((part.labels != PADDING_LABEL).sum(dim=1) for part in parts).tolist()  # type: ignore[union-attr]
        self.meanings, self.template, self.kept = [""] * len(items), None, list(range(len(items)))
        self.network_options: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def embeds(self) -> Tensor:
        """The embeddings of the tasks, with shape (T, E)."""
        return self._all.embeds

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.embeds.device

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors, in place."""
        support, query, embeds, context = self._all
        moved = [Examples(part.inputs.to(device), part.labels.to(device)) for part in (support, query)]
        named = {name: value.to(device) for name, value in context.items()}
        self._all = TaskBatch(moved[0], moved[1], embeds.to(device), named)
        return self

    def describe(self, task: int) -> str:
        """A task by its number and its text, for messages."""
        return f"task {self.kept[task]} ({self.questions[task]!r:.80})"

    def check_questions(self) -> None:
        """Embeddings describe the tasks, whether there are texts or not."""

    def subset(self, tasks: Sequence[int]) -> Self:
        """Some of the tasks, by their numbers, in the given order."""
        rows = list(tasks)
        other = copy.copy(self)
        other._all = self.batch(rows)
        for name in ("questions", "meanings", "sizes", "kept"):
            setattr(other, name, [getattr(self, name)[row] for row in rows])
        return other

    def batch(self, tasks: Sequence[int] | Tensor | None = None, examples: int | None = None) -> TaskBatch:
        """Some tasks as one batch, padded to the largest of all.

        Args:
            tasks: numbers of B tasks; all by default.
            examples: how many examples of each set of a task are drawn, with torch's global randomness, where it has more.

        Raises:
            InputError: `examples` is below 1.
        """
        if examples is not None:
            check_sizes(examples=examples)
        rows = torch.as_tensor(range(len(self)) if tasks is None else tasks).to(self.device)
        support, query, embeds, context = self._all
        parts = [_some(Examples(part.inputs[rows], part.labels[rows]), examples) for part in (support, query)]
        return TaskBatch(
            parts[0], parts[1], embeds[rows], {name: value[rows] for name, value in context.items()}
        )


def _some(examples: Examples, limit: int | None) -> Examples:
    """At most `limit` examples of each task, drawn at random."""
    if limit is None or limit >= examples.labels.shape[1]:
        return examples
    present = examples.labels != PADDING_LABEL
    places = torch.arange(present.shape[1], device=present.device).expand_as(present)
    chosen, real = drawn(places, present, limit)
    index = chosen.reshape(*chosen.shape, *[1] * (examples.inputs.ndim - 2)).expand(
        -1, -1, *examples.inputs.shape[2:]
    )
    return Examples(
        examples.inputs.gather(1, index), examples.labels.gather(1, chosen).masked_fill(~real, PADDING_LABEL)
    )
