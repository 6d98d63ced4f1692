"""What the page computes for a question: sampled classifiers, and what they say about pictures.

Notation: N pictures, C answers, K samples.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Generator, Tensor

from weightgen.app.fields import field
from weightgen.data.meta_vqa.templates import answer_texts, make_template
from weightgen.encoders.alike import cut_texts, length_limit, refuse_alike
from weightgen.errors import InputError, check_sizes
from weightgen.pipelines.arguments import split_answers
from weightgen.pipelines.generated_weights import GeneratedWeights
from weightgen.pipelines.inputs import check_answers, check_prompts
from weightgen.pipelines.known_questions import KnownQuestions
from weightgen.pipelines.weight_pipeline import WeightPipeline

MAX_LETTERS = 1000
MAX_ANSWERS = 100
MAX_SAMPLES = 64


class Settings(NamedTuple):
    """How weights are sampled."""

    num_samples: int = 8
    guidance_scale: float = 1.0
    seed: int | None = 0


class Reply(NamedTuple):
    """What the page shows.

    Attributes:
        out: the sampled weights.
        answers: C answers.
        shares: probability of each answer by each sample, with shape (K, N, C).
        notes: sentences below the answers.
        seconds: to sample the weights, and to answer about the pictures.
    """

    out: GeneratedWeights
    answers: list[str]
    shares: Tensor
    notes: list[str]
    seconds: tuple[float, float]


def suggested_answers(
    pipe: WeightPipeline, known: KnownQuestions | None, question: str
) -> tuple[list[str], str]:
    """The answers of the nearest known question, and that question.

    Raises:
        FieldError: the question is empty, or no questions are known.
    """
    with field("question"):
        check_question(question)
    with field("answers"):
        if known is None:
            raise InputError("no data set is known to this model: write the answers, such as: yes, no")
        row = known.nearest(question.strip(), pipe)
    return row["answers"], row["question"]


def ask(
    pipe: WeightPipeline,
    question: str,
    answers: str,
    pictures: Sequence[Image.Image],
    settings: Settings | None = None,
) -> Reply:
    """Sample classifiers for a question, and let each answer about the pictures.

    Args:
        pipe: the pipeline.
        question: the question.
        answers: with commas between.
        pictures: N pictures; may be none.
        settings: how weights are sampled.

    Raises:
        FieldError: with the field that must be changed.
    """
    settings = settings or Settings()
    with field("question"):
        prompt = check_question(question)
    with field("answers"):
        choices = check_choices(pipe, prompt, answers)
    with field("settings"):
        check_settings(settings)
        start = time.perf_counter()
        out = pipe(
            prompt,
            choices,
            num_samples=settings.num_samples,
            guidance_scale=settings.guidance_scale,
            generator=Generator().manual_seed(settings.seed or 0),
        )
        sampled = time.perf_counter()
    shares = sample_shares(out, pictures)
    return Reply(out, choices, shares, notes_on(out), (sampled - start, time.perf_counter() - sampled))


@torch.no_grad()
def sample_shares(out: GeneratedWeights, pictures: Sequence[Image.Image]) -> Tensor:
    """Probability of each answer by each sample, with shape (K, N, C)."""
    classifiers = [out.classifier(0, sample) for sample in range(out.weights.shape[1])]
    if not pictures:
        return torch.zeros(len(classifiers), 0, len(classifiers[0].answers))
    features = out.pipeline.encoder.encode_images(list(pictures)).clone()
    return torch.stack([one(features).softmax(dim=-1) for one in classifiers]).cpu()


def check_question(question: str) -> str:
    """The question without spaces around it.

    Raises:
        InputError: it is empty or too long.
    """
    if len(question) > MAX_LETTERS:
        raise InputError(f"the question has {len(question):,} letters: write at most {MAX_LETTERS:,}")
    if not question.strip():
        raise InputError("write a question, such as: Does it have wheels?")
    return check_prompts(question.strip())[0]


def check_choices(pipe: WeightPipeline, prompt: str, answers: str) -> list[str]:
    """The answers as a list.

    Raises:
        InputError: fewer than two, too many, one twice, or two that the encoder cannot tell apart.
    """
    if not answers.strip():
        raise InputError("write the answers to choose from, with commas between, such as: yes, no")
    (choices,) = check_answers(split_answers(answers), 1)
    if len(choices) > MAX_ANSWERS:
        raise InputError(f"got {len(choices)} answers: write at most {MAX_ANSWERS}")
    refuse_alike(pipe.encoder, answer_texts(pipe.template or make_template(prompt), choices), choices)
    return choices


def check_settings(settings: Settings) -> None:
    """Refuse what is out of range.

    Raises:
        InputError: naming the setting.
    """
    check_sizes(1, MAX_SAMPLES, samples=settings.num_samples)
    if settings.seed is None:
        raise InputError("write a seed: a whole number such as 0")
    check_sizes(0, 2**63 - 1, seed=settings.seed)


def notes_on(out: GeneratedWeights) -> list[str]:
    """What must be known to judge the answers: how familiar the question is, and whether all of it was read."""
    found = []
    if (warning := out.warning()) is not None:
        found.append(f"This question is {warning}.")
    elif out.familiarity is not None:
        known = out.familiarity[0].item()
        found.append(f"Familiarity {known:.2f} of 1: the question is like those of the training.")
    encoder = out.pipeline.encoder
    if cut_texts(encoder, out.prompts):
        found.append(
            f"The encoder reads {length_limit(encoder)} of a question, and not the rest of this one."
        )
    return found
