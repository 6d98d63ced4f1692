"""Support sets: labelled images for a pipeline, checked and embedded.

Notation: B support sets, D support embedding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.errors import InputError
from weightgen.hypernets import SupportHNet
from weightgen.pipelines.classifier import open_picture
from weightgen.protocols import Encoder
from weightgen.tasks import Examples

Support = tuple[Sequence[Any], Sequence[Any]]
"""(images, labels): PIL images or paths; numbers of answers or the answers themselves."""


def support_list(support: Support | Sequence[Support], prompts: int | None) -> list[Support]:
    """One support set for each prompt: a tuple is for all of them, a list has one for each.

    Raises:
        InputError: it is neither, or has another number.
    """
    if not isinstance(support, tuple | list):
        raise InputError(f"support must be (images, labels), or a list of such pairs, got {support!r:.80}")
    sets = [support] * (prompts or 1) if isinstance(support, tuple) else list(support)
    for one in sets:
        if not isinstance(one, tuple) or len(one) != 2:
            raise InputError(f"support must be (images, labels), or a list of such pairs, got {one!r:.80}")
    if len(sets) != (prompts or len(sets)) or not sets:
        raise InputError(
            f"expected one support set, or one for each of {prompts or 1} prompts, got {len(sets)}"
        )
    return sets


@torch.no_grad()
def embed_support(
    encoder: Encoder, hypernet: SupportHNet, support: Support, answers: Sequence[str], template: str
) -> Tensor:
    """The support embedding (D,) of labelled images.

    Args:
        encoder: embeds images and answers.
        hypernet: embeds support sets.
        support: images and labels.
        answers: what the labels are about.
        template: statement with one `{}` in which the answers are embedded.

    Raises:
        InputError: see `check_support_set`, or an image that cannot be read.
    """
    labels = check_support_set(support, answers)
    images = encoder.encode_images([_opened(image, number) for number, image in enumerate(support[0])])
    choices = encoder.encode_texts(answer_texts(template, answers))
    examples = Examples(images[None].clone(), torch.tensor(labels, device=images.device)[None])
    return hypernet.encode(examples, choices[None].clone())[0]


def check_support_set(support: Support, answers: Sequence[str]) -> list[int]:
    """The labels of a support set as numbers of answers.

    Raises:
        InputError: no examples, another number of labels than of images, a label that is missing or no answer, or an answer that has no
            example.
    """
    images, labels = support
    if isinstance(images, str | os.PathLike | Image.Image) or isinstance(labels, str):
        raise InputError("support takes lists: support=([image, image], ['red', 'green'])")
    if not (hasattr(images, "__len__") and hasattr(labels, "__len__")):
        raise InputError(f"support takes lists of images and labels, got {images!r:.40} and {labels!r:.40}")
    if len(images) != len(labels):
        raise InputError(
            f"expected one label for each image of the support set, got {len(images)} images and {len(labels)} labels"
        )
    if all(label is None for label in labels):
        raise InputError("the support set has no labelled example: give at least one for each answer")
    found = [_number(label, place, answers) for place, label in enumerate(labels)]
    bare = [answer for number, answer in enumerate(answers) if number not in found]
    if bare:
        raise InputError(
            f"the answer {bare[0]!r} has no example in the support set: add one, or leave the answer out"
        )
    return found


def _number(label: Any, place: int, answers: Sequence[str]) -> int:
    if label is None:
        raise InputError(f"example {place} of the support set has no label: leave it out")
    if isinstance(label, str):
        if label not in answers:
            raise InputError(
                f"example {place} of the support set is labelled {label!r}, which is none of {list(answers)}"
            )
        return list(answers).index(label)
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise InputError(
            f"example {place} of the support set has the label {label!r}: give an answer or its number"
        )
    number = label.__index__()
    if not 0 <= number < len(answers):
        raise InputError(
            f"example {place} of the support set has the label {number}, but answers have the numbers 0 to {len(answers) - 1}"
        )
    return int(number)


def _opened(image: Any, place: int) -> Image.Image:
    try:
        return open_picture(image)
    except InputError as error:
        raise InputError(f"example {place} of the support set: {error}") from error
