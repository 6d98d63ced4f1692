"""Accuracy from a question and examples together, by `pipelines.mixture.Mixture`.

Notation: B tasks, K samples, N examples, M queries, C answers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.evaluation.accuracy import Scores, task_streams
from weightgen.evaluation.curves import few_shots
from weightgen.metrics import whole_pictures
from weightgen.pipelines.mixture import Mixture
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch, batches


@torch.no_grad()
def mixed_scores(
    pipe: Any,
    tasks: MetaVQATasks,
    shots: int | None = None,
    *,
    seed: int = 0,
    num_samples: int = 1,
    mixture: Mixture | None = None,
    **sampling: Any,
) -> Scores:
    """Score each task's question and examples together; without an example of every answer, the question alone.

    Args:
        pipe: a `WeightPipeline`; where it knows the familiarity of a question, the mixture uses it.
        tasks: T tasks.
        shots: examples of each class, the same ones as every other method takes; None stands for all.
        seed: of the sampling, as in `zero_shot`, and of the choice of examples.
        num_samples: K networks, whose probabilities are averaged.
        mixture: how question and examples are mixed.
        **sampling: further arguments of `WeightPipeline.sample`.
    """
    weights, _ = pipe.sample(
        tasks.embeds, num_samples=num_samples, generator=task_streams(len(tasks), seed), **sampling
    )
    known = torch.ones(len(tasks)) if pipe.familiarity is None else pipe.familiarity(tasks.embeds).cpu()
    accuracy, count = torch.zeros(len(tasks)), torch.zeros(len(tasks))
    for rows in batches(tasks.sizes, 64):
        batch = few_shots(tasks.batch(rows), torch.tensor(rows), shots, seed)
        asked = [
            pipe.network(weights[rows], part.inputs, **batch.context).softmax(dim=-1).mean(dim=1).log()
            for part in (batch.support, batch.query)
        ]
        for place, row in enumerate(rows):
            right = _right(batch, place, asked, known[row].item(), mixture or Mixture())
            accuracy[row], count[row] = right.float().mean(), len(right)
    return Scores(accuracy, count)


def _right(batch: TaskBatch, place: int, asked: list[Tensor], known: float, mixture: Mixture) -> Tensor:
    """Which queries (M,) of one task of a batch are answered right."""
    answers = int(batch.context["answer_mask"][place].sum())
    size = batch.context["answers"].shape[-1]

    def real(part: Examples, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = part.labels[place] != PADDING_LABEL
        features = normalize(whole_pictures(part.inputs[place, kept], size), dim=-1)
        return features, part.labels[place, kept], logits[place, kept, :answers]

    examples, labels, question = real(batch.support, asked[0])
    queries, truths, found = real(batch.query, asked[1])
    if len(labels.unique()) == answers:
        found = mixture(question, examples, labels, found, queries, known)
    return found.argmax(dim=-1) == truths
