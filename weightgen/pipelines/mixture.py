"""A question and k labelled examples together: the question's classifier, corrected by what the examples say.

Notation: N examples, M queries, C answers, E features, ℓ log-probabilities of the question's classifier.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from weightgen.errors import InputError

__all__ = ["Mixture", "ridge_scores"]


@dataclass(frozen=True)
class Mixture:
    """log p(y | x) ∝ a ℓ(x)_y + b r(x)_y, with r a ridge regression on the examples in closed form.

    a and b maximise Σᵢ log p(yᵢ | xᵢ) − (a − a₀ f)² / 2σ² − (b − b₀)² / 2ς² over the examples, where each is scored by
    the regression without it. f is the familiarity of the question: of an unfamiliar one the examples decide, unless
    they show that it is right. Answers with a single example cannot be left out: then b stays at its prior.

    Args:
        question_weight: a₀.
        question_spread: σ.
        example_weight: b₀ for one example per answer, where the regression cannot be checked.
        checked_weight: b₀ where it can.
        example_spread: ς.
        ridge: λ, with features of length 1.
    """

    question_weight: float = 1.0
    question_spread: float = 0.5
    example_weight: float = 1.0
    checked_weight: float = 6.0
    example_spread: float = 4.0
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
        checked = int(counts.min()) > 1
        a, b = self._weights(question.double(), left_out if checked else None, labels, familiarity)
        return (a * query_question.double() + b * scores).log_softmax(dim=-1).to(query_question.dtype)

    def _weights(
        self, question: Tensor, left_out: Tensor | None, labels: Tensor, familiarity: float
    ) -> tuple[float, float]:
        """A and b by Newton's method: the objective is concave in both."""
        middle = self.example_weight if left_out is None else self.checked_weight
        prior = torch.tensor([self.question_weight * familiarity, middle], dtype=torch.double)
        spread = torch.tensor([self.question_spread, self.example_spread], dtype=torch.double)
        parts = torch.stack([question, torch.zeros_like(question) if left_out is None else left_out])

        def loss(point: Tensor) -> Tensor:
            fit = cross_entropy(torch.einsum("p,pnc->nc", point, parts), labels, reduction="sum")
            return fit + ((point - prior) / spread).square().sum() / 2

        point = prior.clone()
        for _ in range(10):
            slope, curvature = torch.func.grad(loss)(point), torch.func.hessian(loss)(point)
            step = torch.linalg.solve(curvature, slope)
            while loss(point - step) > loss(point) and step.abs().max() > 1e-6:
                step = step / 2
            point = point - step
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
