"""What a pipeline samples weights for: a question, examples, or both, as one condition and its guidance.

Notation: B prompts, E text embedding, D support embedding.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from weightgen.data.meta_vqa.templates import answer_texts, check_template, make_template
from weightgen.encoders.alike import cut_texts, length_limit, refuse_alike
from weightgen.errors import InputError
from weightgen.guidance import ClassifierFreeGuidance, TextAndSupportGuidance
from weightgen.hypernets import SupportHNet
from weightgen.pipelines.arguments import as_list, check_texts
from weightgen.pipelines.support_sets import Support, embed_support, support_list
from weightgen.protocols import Denoiser, Encoder

Guide = Callable[[Denoiser], Denoiser]
"""Denoiser → guided denoiser, which is a `Denoiser` again."""


MAX_ANSWERS = 10_000


class Condition(NamedTuple):
    """What to sample for.

    Attributes:
        embeds: with shape (B, E), or (B, E + D) for a denoiser of two parts.
        guide: denoiser → guided denoiser.
    """

    embeds: Tensor
    guide: Guide


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


class Request(NamedTuple):
    """What was asked for, checked.

    Attributes:
        size: B.
        prompts: B questions; empty texts where embeddings or examples were given.
        choices: the answers of each, or None.
        templates: B statements with one `{}`.
        supports: a support set for each, or None.
    """

    size: int
    prompts: list[str]
    choices: list[list[str]] | None
    templates: list[str]
    supports: list[Support] | None


def check_request(
    prompt: str | Sequence[str] | None,
    prompt_embeds: Tensor | None,
    answers: Sequence[str] | Sequence[Sequence[str]] | None,
    support: Support | Sequence[Support] | None,
    template: str | None,
) -> Request:
    """Check all that a pipeline is called with, before any work.

    Raises:
        InputError: neither a question nor examples, or both a prompt and embeddings; see also `check_prompts`, `check_answers`,
            `support_list`.
    """
    if (prompt is None) == (prompt_embeds is None) and not (prompt is None and support is not None):
        raise InputError("give either a prompt or prompt_embeds, or examples as support=(images, labels)")
    prompts = check_prompts(prompt) if prompt is not None else None
    asked = len(prompts) if prompts is not None else None if prompt_embeds is None else len(prompt_embeds)
    supports = support_list(support, asked) if support is not None else None
    count = len(supports) if supports is not None else asked or 0
    choices = check_answers(answers, count) if answers is not None else None
    if template is not None:
        check_template(template, "template")
        check_texts([template], "the template")
    if choices and template is None and prompts is None:
        raise InputError("answers need a template when there is no prompt, e.g. template='the star is {}'")
    if supports is not None and choices is None:
        raise InputError("examples need the answers to choose from: call the pipeline with answers=[...]")
    prompts = prompts or [""] * count
    templates = [template or make_template(text) for text in prompts]
    return Request(count, prompts, choices, templates, supports)


def check_reading(encoder: Encoder, asked: Request) -> None:
    """Refuse answers that the encoder cannot tell apart, and warn of questions whose end it does not read."""
    for choices, template in zip(asked.choices or [], asked.templates, strict=False):
        refuse_alike(encoder, answer_texts(template, choices), choices)
    for question in cut_texts(encoder, asked.prompts):
        warnings.warn(
            f"the encoder reads {length_limit(encoder)} of a question, and not the end of {question!r:.120}",
            stacklevel=3,
        )


def embed_supports(encoder: Encoder, hypernet: SupportHNet | None, asked: Request) -> Tensor:
    """Support embeddings (B, D).

    Raises:
        InputError: there is no network for examples; see also `embed_support`.
    """
    if hypernet is None:
        raise InputError("this pipeline takes questions only: for examples, train one with support=...")
    cases = zip(asked.supports or [], asked.choices or [], asked.templates, strict=True)
    return torch.stack([embed_support(encoder, hypernet, *case) for case in cases])


def check_scales(scales: Sequence[float], guidable: bool) -> None:
    """Refuse guidance of a prior that was trained without conditioning dropout; `scales` are those in use.

    Raises:
        InputError: a scale other than 1.
    """
    if guidable or list(scales) == [1] * len(scales):
        return
    raise InputError(
        f"this model was trained without conditioning dropout and cannot be guided: write guidance_scale=1, got {scales[0]}"
        if len(scales) == 1
        else f"without conditioning dropout there is no guidance: write 1 for both scales, got {list(scales)}"
    )


def streams(generator: Generator | Sequence[Generator] | None, prompts: int, samples: int) -> list[Generator]:
    """One generator per (prompt, sample), in that order.

    Raises:
        InputError: what is no generator, or another number of generators than of prompts.
    """
    for one in generator if isinstance(generator, Sequence) else [generator]:
        if one is not None and not isinstance(one, Generator):
            raise InputError(
                f"generator must be a torch.Generator, got {one!r:.40}: write torch.Generator().manual_seed(42)"
            )
    if isinstance(generator, Sequence):
        if len(generator) != prompts:
            raise InputError(
                f"expected one generator, or one for each of {prompts} prompts, got {len(generator)}"
            )
        return [stream for one in generator for stream in streams(one, 1, samples)]
    # Drawn one by one: torch draws longer tensors in another order, and the first samples must not depend on their number.
    seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(samples)]
    return [Generator().manual_seed(seed) for _ in range(prompts) for seed in seeds]


def check_prompts(prompt: str | Sequence[str]) -> list[str]:
    """One question or several, as a list.

    Raises:
        InputError: none, an empty one, or one that is no valid text.
    """
    prompts = [prompt] if isinstance(prompt, str) else as_list(prompt, "prompts")
    if not prompts or not all(isinstance(text, str) and text.strip() for text in prompts):
        raise InputError(f"expected a question such as 'What color is the star?', got {prompt!r}")
    check_texts(prompts, "the question")
    return prompts


def check_answers(answers: Sequence[str] | Sequence[Sequence[str]], prompts: int) -> list[list[str]]:
    """Answers for each prompt: one list is for all of them. Whether the encoder can tell them apart is for `encoders.alike`.

    Raises:
        InputError: another number of lists, fewer than two answers, an empty one, one that is no text, or one given twice.
    """
    if isinstance(answers, str):
        raise InputError(f"answers must be a list such as ['red', 'green'], got the text {answers!r}")
    given = as_list(answers, "answers")
    flat = not any(isinstance(some, list | tuple | set | frozenset) for some in given)
    lists = [given] * prompts if flat else [as_list(some, "answers") for some in given]
    if len(lists) != prompts:
        raise InputError(
            f"expected one list of answers, or one for each of {prompts} prompts, got {len(lists)}"
        )
    for some in lists:
        _check_choices(some)
    return lists


def _check_choices(answers: list[Any]) -> None:
    if len(answers) > MAX_ANSWERS:
        raise InputError(f"expected at most {MAX_ANSWERS:,} answers, got {len(answers):,}")
    if len(answers) < 2:
        raise InputError(f"a classifier chooses among two answers or more, got {answers}")
    for answer in answers:
        if not isinstance(answer, str):
            raise InputError(f"answers must be texts, got {answer!r}: write {str(answer)!r}")
    if not all(answer.strip() for answer in answers):
        raise InputError(f"answers must be texts that are not empty, got {answers}")
    check_texts(answers, "the answer")
    if len({" ".join(answer.split()) for answer in answers}) < len(answers):
        raise InputError(f"answers must differ, and not by spaces alone, got {answers}")
