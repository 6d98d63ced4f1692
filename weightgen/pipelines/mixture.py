"""A question and k labelled examples together: the question's classifier, corrected by what the examples say.

Notation: N examples, M queries, C answers, E features, ℓ log-probabilities of the question's classifier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from weightgen.errors import InputError

__all__ = ["Mixture", "ridge_scores"]


@dataclass(frozen=True)
class Mixture:
    """log p(y | x) ∝ a ℓ(x)_y + b r(x)_y, with r a ridge regression on the examples in closed form.

    a and b maximise Σᵢ log p(yᵢ | xᵢ) − (a − a₀ f^γ)² / 2σ² − (b − b₀ − b₁ log₂ k)² / 2ς² over the examples, each scored by
    the regression without it. k is the fewest examples of an answer, f the familiarity of the question: of an unfamiliar
    one the examples decide, unless they show that it is right. A single example cannot be left out: at k = 1 b stays at b₀.
    The defaults are chosen on Photos, on validation tasks and on attributes held out for it.

    Args:
        question_weight: a₀.
        question_spread: σ.
        example_weight: b₀.
        example_growth: b₁.
        example_spread: ς.
        sharpness: γ.
        ridge: λ, with features of length 1.
    """

    question_weight: float = 0.7
    question_spread: float = 0.3
    example_weight: float = 6.0
    example_growth: float = 1.0
    example_spread: float = 3.0
    sharpness: float = 3.0
    ridge: float = 1.0

    def __call__(
        self,
        question: Tensor,
        examples: Tensor,
        labels: Tensor,
        query_question: Tensor,
        queries: Tensor,
        familiarity: float = 1.0,
    ) -> Tensor:
        """Classify queries.

        Args:
            question: ℓ of the examples, with shape (N, C).
            examples: features (N, E).
            labels: of the examples (N,).
            query_question: ℓ of the queries, with shape (M, C).
            queries: features (M, E).
            familiarity: f, from 0 to 1.

        Returns:
            Log-probabilities (M, C).

        Raises:
            InputError: an answer without an example.
        """
        counts = torch.bincount(labels, minlength=question.shape[1])
        if len(counts) > question.shape[1] or not counts.all():
            raise InputError(
                f"expected an example of each of {question.shape[1]} answers, got {counts.tolist()}"
            )
        scores, left_out = ridge_scores(examples, labels, queries, self.ridge)
        a, b = self._weights(question.double(), left_out, labels, int(counts.min()), familiarity)
        return (a * query_question.double() + b * scores).log_softmax(dim=-1).to(query_question.dtype)

    def _weights(
        self, question: Tensor, left_out: Tensor, labels: Tensor, shots: int, familiarity: float
    ) -> tuple[float, float]:
        """A and b by Newton's method: the objective is concave in both."""
        middle = self.example_weight + self.example_growth * math.log2(shots)
        prior = torch.tensor([self.question_weight * familiarity**self.sharpness, middle], dtype=torch.double)
        spread = torch.tensor([self.question_spread, self.example_spread], dtype=torch.double)
        parts = torch.stack([question, left_out if shots > 1 else torch.zeros_like(question)])

        def loss(point: Tensor) -> Tensor:
            fit = cross_entropy(torch.einsum("p,pnc->nc", point, parts), labels, reduction="sum")
            return fit + ((point - prior) / spread).square().sum() / 2

        right = one_hot(labels, parts.shape[-1])
        point, before = prior, loss(prior)
        for _ in range(20):
            found = torch.einsum("p,pnc->nc", point, parts).softmax(dim=-1)
            slope = torch.einsum("pnc,nc->p", parts, found - right) + (point - prior) / spread**2
            mean = (parts * found).sum(dim=-1, keepdim=True)
            curvature = torch.einsum("pnc,qnc,nc->pq", parts - mean, parts - mean, found) + torch.diag(
                spread**-2
            )
            step = torch.linalg.solve(curvature, slope)
            while (after := loss(point - step)) > before and step.abs().max() > 1e-6:
                step = step / 2
            point, before = point - step, after
            if step.abs().max() < 1e-6:
                break
        point = point.clamp_min(0)
        return point[0].item(), point[1].item()


def ridge_scores(examples: Tensor, labels: Tensor, queries: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Ridge regression on one-hot labels, each answer with equal weight, in closed form.

    Args:
        examples: features (N, E).
        labels: (N,), with an example of each of C answers.
        queries: features (M, E).
        ridge: λ.

    Returns:
        Scores of the queries (M, C), and of each example by the regression without it (N, C).
    """
    examples, queries = examples.double(), queries.double()
    targets = one_hot(labels).double()
    counts = targets.sum(dim=0)
    answers = targets.shape[1]
    middle = ((targets / counts).T @ examples).mean(dim=0)
    examples, queries, targets = examples - middle, queries - middle, targets - 1 / answers
    root = (len(labels) / (answers * counts[labels])).sqrt()[:, None]
    gram = root * (examples @ examples.T) * root.T
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(labels), dtype=torch.double))
    dual = root * (inverse @ (root * targets))
    # The residual without an example is its residual, divided by one minus its leverage.
    residual = (targets - examples @ (examples.T @ dual)) / (ridge * inverse.diagonal()[:, None])
    return queries @ (examples.T @ dual), targets - residual
