"""A classifier made of sampled weights: images in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weightgen.encoders.clip import ImageTextEncoder


class Classifier(nn.Module):
    """A base network that holds its weights, with the answers it chooses from and the encoder it sees through.

    Args:
        network: the base network, e.g. a `CLIPAdapter`, holding its weights.
        encoder: embeds images.
        answers: C answers.
        answer_embeds: their embeddings, with shape (C, E).
    """

    answer_embeds: Tensor

    def __init__(
        self, network: nn.Module, encoder: ImageTextEncoder, answers: Sequence[str], answer_embeds: Tensor
    ) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder
        self.answers = list(answers)
        self.register_buffer("answer_embeds", answer_embeds)

    def forward(self, features: Tensor) -> Tensor:
        """Score every answer for image features (N, E).

        Returns:
            Logits, with shape (N, C).
        """
        logits: Tensor = self.network(features, answers=self.answer_embeds)
        return logits

    @torch.no_grad()
    def probabilities(self, images: Sequence[Any]) -> Tensor:
        """Probability of each answer for N images (PIL images, or a tensor that the encoder takes), with shape (N, C)."""
        return self(self.encoder.encode_images(images)).softmax(dim=-1)

    def predict(self, images: Sequence[Any]) -> list[str]:
        """The likeliest answer for each of N images."""
        return [self.answers[i] for i in self.probabilities(images).argmax(dim=-1).tolist()]
