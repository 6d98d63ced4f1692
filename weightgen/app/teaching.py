"""What the page computes for labelled examples: a classifier of a few pictures, alone or with a question."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from weightgen.app.asking import Settings, check_choices, check_question, check_settings
from weightgen.app.fields import field
from weightgen.errors import InputError
from weightgen.pipelines.support_classifier import SupportClassifier
from weightgen.pipelines.weight_pipeline import WeightPipeline


class Taught(NamedTuple):
    """What the page shows.

    Attributes:
        answers: C answers, in the order of `shares`.
        shares: probability of each answer, with shape (1, N, C).
        notes: sentences below the answers.
    """

    answers: list[str]
    shares: Tensor
    notes: list[str]


def teach(
    pipe: WeightPipeline,
    groups: Sequence[tuple[str, Sequence[Image.Image]]],
    question: str,
    queries: Sequence[Image.Image],
    settings: Settings | None = None,
) -> Taught:
    """Fit a `SupportClassifier` and let it answer.

    Args:
        pipe: the pipeline.
        groups: each answer with its examples; a group without both is left out.
        question: what the answers are about; an empty text for examples alone.
        queries: N pictures to answer about.
        settings: how weights are sampled for the question.

    Raises:
        FieldError: with the field that must be changed.
    """
    settings, prompt = settings or Settings(), None
    with field("groups"):
        answers = check_groups(groups)
    if question.strip():
        with field("question"):
            prompt = check_question(question)
        with field("groups"):
            check_choices(pipe, prompt, ", ".join(f'"{answer}"' for answer in answers))
    with field("settings"):
        check_settings(settings)
    with field("queries"):
        if not queries:
            raise InputError("add a picture to answer about")
    start = time.perf_counter()
    chosen = [(name.strip(), image) for name, images in groups for image in images if name.strip()]
    images, labels = [image for _, image in chosen], [name for name, _ in chosen]
    how = (settings.num_samples, settings.guidance_scale, settings.seed or 0)
    with field("settings"):
        fitted = SupportClassifier(pipe, *how).fit(images, labels, prompt=prompt)
    shares = torch.from_numpy(fitted.predict_proba(list(queries)))[None]
    count = f"{len(images)} example{'s' * (len(images) > 1)}"
    by = f"{count} and the question together" if prompt else f"{count} alone, without a question"
    notes = [f"Answered by {by}."]
    if prompt and fitted.classifier_.familiarity < 1:
        notes.append(f"Familiarity of the question {fitted.classifier_.familiarity:.2f} of 1.")
    notes.append(f"All in {time.perf_counter() - start:.2f} s; no gradient step on a network.")
    return Taught(fitted.classes_.tolist(), shares, notes)


def check_groups(groups: Sequence[tuple[str, Sequence[Image.Image]]]) -> list[str]:
    """The answers of the groups that are filled in.

    Raises:
        InputError: fewer than two, examples without an answer or the reverse, or an answer given twice.
    """
    used = [(name.strip(), images) for name, images in groups if name.strip() or images]
    for name, images in used:
        if not name:
            raise InputError("some examples have no answer: write what they are above them")
        if not images:
            raise InputError(f"the answer {name!r} has no example: add a picture, or remove the answer")
    names = [name for name, _ in used]
    if len(names) < 2:
        raise InputError("fill in at least two answers, each with an example")
    if len(set(names)) < len(names):
        raise InputError(f"an answer is given twice: {', '.join(names)}")
    if any('"' in name for name in names):
        raise InputError("answers must be without double quotes")
    return names
