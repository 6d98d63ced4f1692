"""What a pipeline samples weights for: a question, examples, or both, as one condition and its guidance.

Notation: B prompts, E text embedding, D support embedding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.encoders.clip import CLIP
from weightgen.errors import InputError
from weightgen.guidance import ClassifierFreeGuidance, TextAndSupportGuidance
from weightgen.hypernets import SupportHNet
from weightgen.protocols import Denoiser
from weightgen.tasks import Examples

Support = tuple[Sequence[Any], Sequence[Any]]
"""(images, labels): PIL images or paths; numbers of answers or the answers themselves."""


class Condition(NamedTuple):
    """What to sample for.

    Attributes:
        embeds: with shape (B, E), or (B, E + D) for a denoiser of two parts.
        guide: denoiser → guided denoiser.
    """

    embeds: Tensor
    guide: Callable[[Denoiser], Denoiser]


def guided_condition(
    part_dims: Sequence[int],
    embeds: Tensor | None,
    support_embeds: Tensor | None,
    text_scale: float,
    support_scale: float,
) -> Condition:
    """Put a text embedding (B, E), a support embedding (B, D), or both together; what is missing is zeros, and is not guided by.

    Args:
        part_dims: (E,), or (E, D) of a denoiser that knows support sets.
        embeds: of texts, or None.
        support_embeds: of support sets, or None.
        text_scale: guidance scale of the text.
        support_scale: guidance scale of the support set.

    Raises:
        InputError: neither, support sets for a denoiser that does not know them, or a scale that is not finite.
    """
    for name, scale in (("guidance_scale", text_scale), ("support_guidance_scale", support_scale)):
        if not math.isfinite(scale):
            raise InputError(f"{name} must be a finite number such as 1.5, got {scale}")
    if support_embeds is not None and len(part_dims) == 1:
        raise InputError("this pipeline takes questions only: for examples, train one with support=...")
    if embeds is None and support_embeds is None:
        raise InputError("nothing to sample for: give a question, or examples as support=(images, labels)")
    given = [embeds, support_embeds][: len(part_dims)]
    known: Tensor = next(part for part in given if part is not None)
    parts = [
        known.new_zeros(len(known), dim) if part is None else part
        for part, dim in zip(given, part_dims, strict=True)
    ]
    joined = torch.cat(parts, dim=-1)
    if embeds is not None and support_embeds is not None:
        dim = part_dims[0]
        return Condition(
            joined, lambda denoiser: TextAndSupportGuidance(denoiser, dim, text_scale, support_scale)
        )
    scale = text_scale if support_embeds is None else support_scale
    return Condition(joined, lambda denoiser: ClassifierFreeGuidance(denoiser, scale))


def check_prompts(prompt: str | Sequence[str]) -> list[str]:
    """One question or several, as a list.

    Raises:
        InputError: none, or an empty one.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts or not all(isinstance(text, str) and text.strip() for text in prompts):
        raise InputError(f"expected a question such as 'What color is the star?', got {prompt!r}")
    return prompts


def check_answers(answers: Sequence[str] | Sequence[Sequence[str]], prompts: int) -> list[list[str]]:
    """Answers for each prompt: one list is for all of them.

    Raises:
        InputError: another number of lists, fewer than two answers, an empty one, or one given twice.
    """
    if isinstance(answers, str):
        raise InputError(f"answers must be a list such as ['red', 'green'], got the text {answers!r}")
    flat = all(isinstance(answer, str) for answer in answers)
    lists = [list(answers)] * prompts if flat else [list(some) for some in answers]
    if len(lists) != prompts:
        raise InputError(
            f"expected one list of answers, or one for each of {prompts} prompts, got {len(lists)}"
        )
    for some in lists:
        if len(some) < 2:
            raise InputError(f"a classifier chooses among two answers or more, got {some}")
        if not all(isinstance(answer, str) and answer.strip() for answer in some):
            raise InputError(f"answers must be texts that are not empty, got {some}")
        # CLIP reads small letters only: answers that differ in nothing else would always tie.
        if len({" ".join(str(answer).lower().split()) for answer in some}) < len(some):
            raise InputError(f"answers must differ, and not by capitals or spaces alone, got {some}")
    return lists  # type: ignore[return-value]


def support_list(support: Support | Sequence[Support], prompts: int | None) -> list[Support]:
    """One support set for each prompt: a tuple is for all of them, a list has one for each.

    Raises:
        InputError: it is neither, or has another number.
    """
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
    clip: CLIP, hypernet: SupportHNet, support: Support, answers: Sequence[str], template: str
) -> Tensor:
    """The support embedding (D,) of labelled images.

    Args:
        clip: embeds images and answers.
        hypernet: embeds support sets.
        support: images and labels.
        answers: what the labels are about.
        template: statement with one `{}` in which the answers are embedded.

    Raises:
        InputError: see `check_support_set`, or an image that cannot be read.
    """
    labels = check_support_set(support, answers)
    images = clip.encode_images([_opened(image, number) for number, image in enumerate(support[0])])
    choices = clip.encode_texts(answer_texts(template, answers))
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
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, str | os.PathLike):
        raise InputError(
            f"example {place} of the support set is a {type(image).__name__}: give a PIL image or the path of one"
        )
    try:
        with Image.open(image) as file:
            return file.convert("RGB")
    except OSError as error:
        raise InputError(f"cannot read the image {image}: {error}") from error
