"""Tasks whose answers are texts that the base network reads itself, in place of frozen embeddings of them.

Notation: B tasks, C answers, L tokens of a statement.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.tasks import TaskBatch


class StatementTasks:
    """The tasks of a split with token ids of their statements: in the context of a batch, `tokens` (B, C, L) stand for `answers`.

    Args:
        tasks: the split.
        tokenize: M texts → token ids (M, L), with 0 for padding.
        template: the statement in which all answers are read; None for that of each task, which holds the question.

    Attributes:
        questions: of the tasks.
        embeds: embeddings of the questions, with shape (T, E).
        sizes: the number of examples of each task.
        meanings: what the questions ask.
    """

    def __init__(
        self, tasks: MetaVQATasks, tokenize: Callable[[list[str]], Tensor], template: str | None = "{}"
    ) -> None:
        self._take(tasks)
        texts = [
            answer_texts(template or own, answers)
            for own, answers in zip(tasks.templates, tasks.answers, strict=True)
        ]
        most = max(map(len, texts))
        # A task with fewer answers repeats its first one, which the mask of the batch leaves out.
        flat = [text for task in texts for text in (*task, *task[:1] * (most - len(task)))]
        self._tokens = tokenize(flat).unflatten(0, (len(texts), most)).to(self.embeds.device)

    def __len__(self) -> int:
        return len(self.tasks)

    def subset(self, tasks: Sequence[int]) -> StatementTasks:
        """Some of the tasks, by their numbers, in the given order."""
        other = copy.copy(self)
        other._take(self.tasks.subset(tasks))
        other._tokens = self._tokens[list(tasks)]
        return other

    def _take(self, tasks: MetaVQATasks) -> None:
        self.tasks = tasks
        self.questions, self.embeds = tasks.questions, tasks.embeds
        self.sizes, self.meanings = tasks.sizes, tasks.meanings

    def batch(self, tasks: Sequence[int] | Tensor | None = None, examples: int | None = None) -> TaskBatch:
        """As `MetaVQATasks.batch`, with `tokens` (B, C, L) and `answer_mask` (B, C) as context."""
        made = self.tasks.batch(tasks, examples)
        mask = made.context["answer_mask"]
        rows = torch.as_tensor(range(len(self)) if tasks is None else tasks)
        tokens = self._tokens[rows, : mask.shape[1]]
        longest = int((tokens != 0).sum(dim=-1).max())  # padding follows the end, and no token looks ahead
        return made._replace(context={"tokens": tokens[..., :longest], "answer_mask": mask})
