"""A classifier of labelled examples alone: a regression on their embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from weightgen.pipelines.classifier import Picture, open_pictures, pick_answers
from weightgen.pipelines.mixture import Mixture
from weightgen.pipelines.support_sets import Support, check_support_set
from weightgen.protocols import Encoder


class ExamplesClassifier:
    """p(y | x) of `Mixture` where no question was asked: a ridge regression on the examples' embeddings.

    Args:
        encoder: embeds images.
        answers: C answers.
        support: images and labels; every answer needs an example.
        mixture: how sharp the regression is.

    Raises:
        InputError: see `check_support_set`, or an image that cannot be read.
    """

    familiarity = 0.0

    def __init__(
        self, encoder: Encoder, answers: Sequence[str], support: Support, mixture: Mixture | None = None
    ) -> None:
        self.encoder, self.answers = encoder, list(answers)
        self.labels = torch.tensor(check_support_set(support, self.answers))
        self.examples = self._embed(support[0])
        self.mixture = mixture or Mixture()

    def _embed(self, images: Picture | Sequence[Picture]) -> Tensor:
        return self.encoder.encode_images(open_pictures(images)).clone()

    def _asked(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, C) of the question alone: all equal where there is none."""
        return features.new_zeros(len(features), len(self.answers))

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
