"""What a user can do with the weights of known questions, without any generator: take the nearest ones.

Notation: R draws of adapted weights for each of T known tasks, P weights, E embedding of a question.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.evaluation.accuracy import evaluate
from weightgen.evaluation.baselines import mean_weights, neighbours_average
from weightgen.evaluation.memorisation import noisy_neighbours
from weightgen.weights import FunctionalNetwork


@dataclass
class KnownWeights:
    """Adapted weights of known tasks, which answer for the tasks of another split.

    Args:
        network: the base network.
        weights: with shape (R, T, P).
        known: embeddings of their questions, with shape (T, E).
    """

    network: FunctionalNetwork
    weights: Tensor
    known: Tensor

    def average(self, part: MetaVQATasks, k: int) -> float:
        """Accuracy of the average of the weights of the k nearest questions, averaged over draws."""
        mean = self.weights.mean(dim=0)
        return self._accuracy(part, neighbours_average(mean, self.known, part.embeds, k))

    def noisy(self, part: MetaVQATasks, noise: float, seed: int = 0) -> float:
        """Accuracy of the nearest question's weights with noise, a multiple of the standard deviation of each weight over tasks."""
        source = torch.Generator().manual_seed(seed)
        return self._accuracy(part, noisy_neighbours(self.weights, self.known, part.embeds, noise, source))

    def mean(self, part: MetaVQATasks, _: object = None) -> float:
        """Accuracy of the mean of all known weights, whatever the question."""
        return self._accuracy(part, mean_weights(self.weights).expand(len(part), -1))

    def _accuracy(self, part: MetaVQATasks, weights: Tensor) -> float:
        return evaluate(self.network, part, lambda _, rows: weights[rows]).macro
