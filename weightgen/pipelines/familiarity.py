"""How familiar a question is: near to questions that were trained on, or unlike all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from weightgen.errors import InputError

__all__ = ["KNOWN", "Familiarity"]

KNOWN = 0.5
"""Familiarity from which a question counts as known."""
APART = 0.9
"""Least share of (known, novel) pairs in the right order that a calibration needs; topics drawn at random for 40 questions reach 0.73."""
ALWAYS = [1.0, -30.0]
"""α and β by which every cosine gives a familiarity of 1."""


class Familiarity(nn.Module, PyTorchModelHubMixin, library_name="weightgen"):
    """P(known | question) = sigmoid(α (s − β)), with s the largest cosine to a training question.

    Cosines are taken where questions about the same thing lie close together: embeddings are multiplied by L, with
    L Lᵀ = (S + ρI)⁻¹ and S the covariance within topics. α and β come from the training questions themselves: each is
    compared with the others of its topic (known) and with those of other topics only (novel). Where these two are hardly different
    (`APART`), the questions do not tell what is new, and every question counts as known; their cosines can still be compared.

    Args:
        embed_dim: E, of the embeddings of questions.
        questions: M, the number of training questions.
        ridge: ρ.
    """

    def __init__(self, embed_dim: int, questions: int, ridge: float = 1e-3) -> None:
        super().__init__()
        self.ridge = ridge
        self.register_buffer("mean", torch.zeros(embed_dim))
        self.register_buffer("whitening", torch.eye(embed_dim))
        self.register_buffer("known", torch.zeros(questions, embed_dim, dtype=torch.half))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        self.mean: Tensor
        self.whitening: Tensor
        self.known: Tensor
        self.calibration: Tensor

    @classmethod
    def fitted(cls, embeds: Tensor, topics: Sequence[str], ridge: float = 1e-3) -> Self:
        """From the training questions.

        Args:
            embeds: with shape (M, E).
            topics: what each question asks about; the attribute of its meaning.
            ridge: ρ.

        Raises:
            InputError: not one topic for each question, or only one topic.
        """
        numbers = {topic: number for number, topic in enumerate(sorted(set(topics)))}
        if len(topics) != len(embeds) or len(numbers) < 2:
            raise InputError(
                f"expected a topic for each of {len(embeds)} questions, at least two different ones, got {len(topics)} "
                f"topics, {len(numbers)} of them different"
            )
        made = cls(embeds.shape[1], len(embeds), ridge)
        return made._fit(embeds.float(), torch.tensor([numbers[topic] for topic in topics]))

    @classmethod
    def of(cls, embeds: Tensor, meanings: Sequence[str]) -> Self | None:
        """From the training questions and their meanings, whose first part, up to a slash, is the topic.

        Returns:
            None where that says too little: meanings are not known, or no two questions are about one topic.
        """
        topics = [meaning.partition("/")[0] for meaning in meanings]
        if not all(topics) or not 1 < len(set(topics)) < len(topics):
            return None
        return cls.fitted(embeds.cpu(), topics).to(embeds.device)

    @torch.no_grad()
    def _fit(self, embeds: Tensor, topics: Tensor) -> Self:
        self.mean.copy_(embeds.mean(dim=0))
        centres = torch.stack([embeds[topics == topic].mean(dim=0) for topic in topics.unique()])
        inside = (embeds - centres[topics]).double()
        covariance = inside.T @ inside / len(inside) + self.ridge * torch.eye(embeds.shape[1]).double()
        self.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))
        self.known.copy_(self._placed(embeds))
        known, novel = self._nearest_in_training(embeds, topics)
        labels = torch.cat([torch.ones_like(known), torch.zeros_like(novel)])
        apart = (known[:, None] > novel).float().mean() >= APART
        found = _logistic(torch.cat([known, novel]), labels) if apart else torch.tensor(ALWAYS)
        self.calibration.copy_(found)
        return self

    def _nearest_in_training(self, embeds: Tensor, topics: Tensor) -> tuple[Tensor, Tensor]:
        """The largest cosines of training questions (M, E) to others of their topic, at most M, and to those of other topics, M."""
        cosines = self._placed(embeds) @ self._placed(embeds).T
        same = topics[:, None] == topics
        novel = cosines.masked_fill(same, -1).amax(dim=1)
        known = cosines.masked_fill(~same, -1).fill_diagonal_(-1).amax(dim=1)
        return known[known > -1], novel  # without topics of one question

    def _placed(self, embeds: Tensor) -> Tensor:
        return normalize((embeds.float() - self.mean) @ self.whitening, dim=-1)

    def similarity(self, embeds: Tensor, others: Tensor) -> Tensor:
        """Cosines (B, M) of questions (B, E) and other questions (M, E), where those about the same topic lie close together."""
        return self._placed(embeds) @ self._placed(others).T

    def nearest(self, embeds: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest training question of each question.

        Args:
            embeds: with shape (B, E).

        Returns:
            Its cosine (B,) and its number (B,).
        """
        best = (self._placed(embeds) @ self.known.float().T).max(dim=-1)
        return best.values, best.indices

    def forward(self, embeds: Tensor) -> Tensor:
        """How familiar questions are.

        Args:
            embeds: with shape (B, E).

        Returns:
            P(known), from 0 to 1, with shape (B,).
        """
        slope, middle = self.calibration
        return torch.sigmoid(slope * (self.nearest(embeds)[0] - middle))


def _logistic(values: Tensor, labels: Tensor) -> Tensor:
    """Slope and middle of a logistic regression on one number."""
    with torch.enable_grad():
        point = torch.tensor([10.0, values.mean().item()], requires_grad=True)
        optimizer = torch.optim.LBFGS([point], max_iter=100)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(point[0] * (values - point[1]), labels)
            loss.backward()
            return loss

        optimizer.step(closure)
    return point.detach()
