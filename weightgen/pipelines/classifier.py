"""A classifier made of sampled weights: images in, answers out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor, nn

from weightgen.errors import InputError
from weightgen.protocols import Encoder
from weightgen.storage.images import read_image, to_rgb

Picture = Image.Image | str | os.PathLike[str]
"""A PIL image, or the path of an image file."""


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
        self, network: nn.Module, encoder: Encoder, answers: Sequence[str], answer_embeds: Tensor
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
    def probabilities(self, images: Picture | Sequence[Picture] | Tensor) -> Tensor:
        """Probability of each answer.

        Args:
            images: N images or paths, one of them alone, or a tensor that the encoder takes.

        Returns:
            With shape (N, C), where N is 1 for an image alone.

        Raises:
            InputError: an image that cannot be read.
        """
        given: Any = images if isinstance(images, Tensor) else open_pictures(images)
        return self(self.encoder.encode_images(given)).softmax(dim=-1)

    @overload
    def predict(self, images: Picture) -> str: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Sequence[Picture] | Tensor) -> list[str]: ...

    def predict(self, images: Picture | Sequence[Picture] | Tensor) -> str | list[str]:
        """The likeliest answer for each of N images, or for one image or path alone.

        Raises:
            InputError: an image that cannot be read.
        """
        return pick_answers(self.answers, self.probabilities(images), images)


def pick_answers(answers: Sequence[str], probabilities: Tensor, images: Any) -> str | list[str]:
    """The likeliest answers by probabilities (N, C): one text where `images` is a single image, else N texts."""
    found = [answers[i] for i in probabilities.argmax(dim=-1).tolist()]
    return found[0] if _is_one(images) else found


def open_pictures(images: Any) -> list[Image.Image]:
    """N images or paths, or one alone, as a list of RGB images; see `open_picture`."""
    return [open_picture(picture) for picture in ([images] if _is_one(images) else images)]


def _is_one(images: Any) -> bool:
    return isinstance(images, Image.Image | str | os.PathLike)


def open_picture(picture: Any) -> Image.Image:
    """A PIL image or the path of one, as RGB.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if not isinstance(picture, str | os.PathLike):
        raise InputError(f"got a {type(picture).__name__}: give a PIL image or the path of one")
    return read_image(picture)
