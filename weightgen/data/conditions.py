"""What a prior is conditioned on in training: the question of each task, its support sets, or both.

Notation: T tasks, B rows, R support sets of each task, E text embedding, D support embedding.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from weightgen.errors import InputError
from weightgen.tasks import random_subset


class TaskConditions:
    """Conditions [question, support set] of T tasks; a question that is not known is zeros, which means "not given".

    Args:
        embeds: embeddings of the questions, with shape (T, E).
        known: numbers of the tasks whose question is known.
        supports: embeddings of R support sets of each task, with shape (R, T, D); None for questions only.
    """

    def __init__(self, embeds: Tensor, known: list[int], supports: Tensor | None = None) -> None:
        rows = torch.tensor(known, device=embeds.device)
        self.embeds = torch.zeros_like(embeds).index_copy(0, rows, embeds[rows])
        self.known = embeds[rows]
        self.supports = supports

    @classmethod
    def of(
        cls, embeds: Tensor, question_fraction: float = 1.0, supports: Tensor | None = None, seed: int = 0
    ) -> Self:
        """Conditions in which a random fraction of the questions is known.

        Raises:
            InputError: see `random_subset`.
        """
        return cls(embeds, random_subset(len(embeds), question_fraction, seed), supports)

    @property
    def dims(self) -> dict[str, int]:
        """Keyword arguments of a denoiser: embed_dim, and support_dim where there are support sets."""
        sizes = {"embed_dim": self.embeds.shape[-1]}
        return sizes if self.supports is None else sizes | {"support_dim": self.supports.shape[-1]}

    def check_dropout(self, drop_rate: float) -> None:
        """Refuse two conditions without dropout, by which a denoiser learns to do with one of them.

        Raises:
            InputError: there are support sets, and the rate is 0.
        """
        if self.supports is not None and not drop_rate > 0:
            raise InputError(
                "a question or a support set alone is learned by dropping the other one: write drop_rate=0.2"
            )

    def fit(self, denoiser: Any) -> None:
        """Let a denoiser take the statistics of the known questions and of the support sets."""
        denoiser.embeds.fit(self.known)
        if self.supports is not None:
            denoiser.supports.fit(self.supports.flatten(0, 1))

    def draw(self, rows: Tensor) -> Tensor:
        """Conditions of tasks `rows` (B,), each with one of its support sets at random: (B, E), or (B, E + D)."""
        given = self.embeds[rows]
        if self.supports is None:
            return given
        draws = torch.randint(len(self.supports), rows.shape, device=rows.device)
        return torch.cat([given, self.supports[draws, rows]], dim=-1)
