"""Methods that learn from the examples of a task: each has settings that validation tasks choose from, and all see the same examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation import baselines, embed_shots, zero_shot
from weightgen.evaluation.mixed import mixed_scores
from weightgen.hypernets.support_hnet import SupportHNet
from weightgen.protocols import Hypernetwork
from weightgen.reports.choice import score_chosen
from weightgen.reports.tables import shots_key
from weightgen.weights import FunctionalNetwork

FewShotMethod = tuple[Sequence[Any], Callable[[MetaVQATasks, int | None, Any], float]]
"""The settings to choose from, and (tasks, examples of each class or None for all, setting) → accuracy."""


def fine_tuning(
    network: FunctionalNetwork, hypernet: Hypernetwork, steps: int, lrs: Sequence[float], seed: int = 0
) -> FewShotMethod:
    """Gradient steps from the start that `hypernet` gives; the setting is the step size."""

    def score(tasks: MetaVQATasks, shots: int | None, lr: float) -> float:
        scores = baselines.fine_tuned_scores(network, hypernet, tasks, shots, steps=steps, lr=lr, seed=seed)
        return scores.macro

    return lrs, score


def one_pass(network: FunctionalNetwork, hypernet: SupportHNet, seed: int = 0) -> FewShotMethod:
    """Weights that a hypernetwork writes from the examples; there is nothing to choose."""
    return [
        None
    ], lambda tasks, shots, _: baselines.one_pass_scores(network, hypernet, tasks, shots, seed).macro


def logistic_regression(strengths: Sequence[float], seed: int = 0) -> FewShotMethod:
    """scikit-learn's logistic regression on the image embeddings; the setting is the inverse regularisation strength."""

    def score(tasks: MetaVQATasks, shots: int | None, c: float) -> float:
        return baselines.fitted_scores(tasks, lambda: baselines.logistic_regression(c), shots, seed).macro

    return strengths, score


def nearest_centroid(seed: int = 0) -> FewShotMethod:
    """The class whose mean image embedding is nearest; there is nothing to choose."""
    make = baselines.nearest_centroid
    return [None], lambda tasks, shots, _: baselines.fitted_scores(tasks, make, shots, seed).macro


def sampling(
    pipe: Any, scales: Sequence[tuple[float, float]], question: bool = True, seed: int = 0, **options: Any
) -> FewShotMethod:
    """Weights that a pipeline samples from examples, and from the question too unless `question` is False.

    The setting is the pair of guidance scales, of the question and of the examples.

    Raises:
        InputError: the pipeline takes questions only.
    """
    if pipe.support is None:
        raise InputError("a pipeline takes questions only: train one with train_hyperldm and support=...")

    def score(tasks: MetaVQATasks, shots: int | None, setting: tuple[float, float]) -> float:
        how = {"guidance_scale": setting[0], "support_guidance_scale": setting[1], **options}
        shown = embed_shots(pipe.support, tasks, shots, seed)
        return zero_shot(pipe, tasks, tasks.embeds if question else None, shown, seed=seed, **how).macro

    return scales, score


def mixing(pipe: Any, seed: int = 0, **options: Any) -> FewShotMethod:
    """Weights sampled for the question, mixed with a regression on the examples; there is nothing to choose."""
    how = {"guidance_scale": 1.0, **options}
    return [None], lambda tasks, shots, _: mixed_scores(pipe, tasks, shots, seed=seed, **how).macro


def few_shot_rows(
    methods: Mapping[str, FewShotMethod], tasks: Mapping[str, MetaVQATasks], shots: Sequence[int | None]
) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, dict[str, Any]]]:
    """Accuracy of methods that learn from examples, each with the setting that validation tasks chose for that many examples.

    Args:
        methods: by name.
        tasks: split → tasks, with "validation".
        shots: examples of each class; None stands for all.

    Returns:
        split → method → `shots_key` → accuracy, and method → `shots_key` → the chosen setting.

    Raises:
        InputError: no setting of a method can be used.
    """
    accuracy: dict[str, dict[str, dict[str, float]]] = {
        split: {name: {} for name in methods} for split in tasks
    }
    chosen: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for name, (settings, score) in tqdm(methods.items(), desc="few-shot"):
        for count in shots:
            key = shots_key(count)
            row = score_chosen(
                lambda split, setting, f=score, n=count: f(tasks[split], n, setting),  # type: ignore[misc]
                tasks,
                settings,
                what=f"{name}, {key} per class",
            )
            chosen[name][key] = row["chosen"]
            for split in tasks:
                accuracy[split][name][key] = row[split]
    return accuracy, chosen
