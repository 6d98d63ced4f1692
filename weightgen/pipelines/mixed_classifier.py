"""A classifier of a question and labelled examples: the question's networks, mixed with a regression on the examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weightgen.pipelines.classifier import Classifier
from weightgen.pipelines.examples_classifier import ExamplesClassifier
from weightgen.pipelines.mixture import Mixture
from weightgen.pipelines.support_sets import Support


class MixedClassifier(ExamplesClassifier):
    """p(y | x) of `Mixture`: the mean of K sampled classifiers, and a ridge regression on the examples' embeddings.

    Args:
        classifiers: K classifiers sampled for one question, with the same encoder and answers.
        support: images and labels; every answer needs an example.
        familiarity: of the question, from 0 to 1; the less familiar, the more the examples decide.
        mixture: how the two are mixed.

    Raises:
        InputError: see `check_support_set`, or an image that cannot be read.
    """

    def __init__(
        self,
        classifiers: Sequence[Classifier],
        support: Support,
        familiarity: float = 1.0,
        mixture: Mixture | None = None,
    ) -> None:
        self.classifiers = list(classifiers)
        super().__init__(self.classifiers[0].encoder, self.classifiers[0].answers, support, mixture)
        self.familiarity = familiarity

    def _asked(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C) of the question alone."""
        return torch.stack([one(features).softmax(dim=-1) for one in self.classifiers]).mean(dim=0).log()
