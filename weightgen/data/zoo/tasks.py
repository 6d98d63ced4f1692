"""The tasks of a zoo that has no data: a sentence and weights for each, nothing to run the weights on.

Notation: T tasks, P weights, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weightgen.data.zoo.reader import Zoo
from weightgen.errors import InputError
from weightgen.protocols import Encoder
from weightgen.tasks import random_subset

HELD_OUT, MOST_HELD_OUT = 0.1, 100
"""The fraction of the tasks, and at most how many, that validate where the zoo names no tasks for it."""


class ZooTasks:
    """One split of a zoo, with the attributes of `MetaVQATasks` that training on weights alone needs.

    Args:
        zoo: of these tasks alone.
        texts: of the tasks.
        encoder: embeds the texts; None where they are not asked for.
        numbers: of the tasks in the whole zoo (T,), where weights are scored; None where they are not.

    Attributes:
        questions: the texts.
        embeds: their embeddings, with shape (T, E).
        sizes: of the tasks, all alike.
        meanings: empty texts: they are not known.
        template: None: there are no answers.
        kept: the rows of the tasks: all.
    """

    def __init__(
        self, zoo: Zoo, texts: Sequence[str], encoder: Encoder | None = None, numbers: Tensor | None = None
    ) -> None:
        self.zoo, self.questions, self.numbers = zoo, list(texts), numbers
        self.sizes, self.meanings, self.template = [1] * len(texts), [""] * len(texts), None
        self.kept, self.encoder = list(range(len(texts))), encoder
        if encoder is not None:
            self.embeds = _embed(encoder, self.questions).to(zoo.device)

    def __len__(self) -> int:
        return len(self.questions)

    def describe(self, task: int) -> str:
        """A task by its row in the split and its text, for messages."""
        return f"task {task} ({self.questions[task]!r:.80})"

    def batch(self, rows: Sequence[int] | Tensor, examples: int | None = None) -> Tensor | None:
        """There are no examples: the numbers (B,) of the tasks in the whole zoo, for a score, or None where there is none."""
        return None if self.numbers is None else self.numbers[torch.as_tensor(rows)]


def zoo_tasks(
    zoo: Zoo, *splits: str, encoder: Encoder | None = None, seed: int = 0, scored: bool = False
) -> list[ZooTasks]:
    """The tasks of some splits: those that the zoo names, or else some of the training tasks at random, which train no more.

    Args:
        zoo: with texts.
        *splits: "train", "validation", "test". A zoo without test tasks is tested on those that validate.
        encoder: see `ZooTasks`.
        seed: of the choice.
        scored: whether batches hold the numbers of their tasks.

    Raises:
        InputError: the zoo has no texts, or too few tasks.
    """
    tasks = zoo.tasks()
    if not tasks:
        raise InputError(
            f"{zoo.folder} says nothing of its tasks: give dataset=..., or import a zoo with descriptions"
        )
    rows: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for number, task in enumerate(tasks):
        rows.setdefault(task.get("split", "train"), []).append(number)
    train = rows["train"]
    if not rows["validation"] and len(train) > 1:
        count = min(max(1, round(HELD_OUT * len(train))), MOST_HELD_OUT)
        rows["validation"] = [train[row] for row in random_subset(len(train), count / len(train), seed)]
        rows["train"] = sorted(set(train) - set(rows["validation"]))
    if not rows["train"] or not rows["validation"]:
        raise InputError(
            f"{zoo.folder} has {len(train)} training tasks: expected some to train, and some to validate"
        )
    rows["test"] = rows["test"] or rows["validation"]
    return [
        ZooTasks(
            zoo.subset(rows[split]),
            [tasks[row]["text"] for row in rows[split]],
            encoder,
            torch.tensor(rows[split], device=zoo.device) if scored else None,
        )
        for split in splits
    ]


@torch.no_grad()
def _embed(encoder: Encoder, texts: Sequence[str]) -> Tensor:
    parts = [encoder.encode_questions(texts[begin : begin + 256]) for begin in range(0, len(texts), 256)]
    return torch.cat(parts).float().clone()
