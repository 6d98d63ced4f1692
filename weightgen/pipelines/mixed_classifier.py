"""A classifier of a question and labelled examples: the question's networks, mixed with a regression on the examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from weightgen.pipelines.classifier import Classifier, Picture, open_pictures, pick_answers
from weightgen.pipelines.mixture import Mixture
from weightgen.pipelines.support_sets import Support, check_support_set


class MixedClassifier:
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
        self.encoder, self.answers = self.classifiers[0].encoder, self.classifiers[0].answers
        self.labels = torch.tensor(check_support_set(support, self.answers))
        self.examples = self._embed(support[0])
        self.familiarity = familiarity
        self.mixture = mixture or Mixture()

    def _embed(self, images: Picture | Sequence[Picture]) -> Tensor:
        return self.encoder.encode_images(open_pictures(images)).clone()

    def _asked(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C) of the question alone."""
        return torch.stack([one(features).softmax(dim=-1) for one in self.classifiers]).mean(dim=0).log()

    @torch.no_grad()
    def probabilities(self, images: Picture | Sequence[Picture]) -> Tensor:
        """Probability of each answer for N images or paths, or for one alone, with shape (N, C).

        Raises:
            InputError: an image that cannot be read.
        """
        features, examples = self._embed(images), self.examples
        found = self.mixture(
            self._asked(examples),
            normalize(examples, dim=-1),
            self.labels.to(examples.device),
            self._asked(features),
            normalize(features, dim=-1),
            self.familiarity,
        )
        return found.exp()

    def predict(self, images: Picture | Sequence[Picture]) -> str | list[str]:
        """The likeliest answer for each of N images, or for one image or path alone."""
        return pick_answers(self.answers, self.probabilities(images), images)
