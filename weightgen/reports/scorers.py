"""How each kind of trained method is scored: functions (tasks, setting) → accuracy, for settings that validation tasks choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.evaluation import zero_shot
from weightgen.evaluation.baselines import fine_tuned_scores
from weightgen.evaluation.guided import hyperclip_scores, latent_start
from weightgen.evaluation.retrieval import KnownWeights
from weightgen.reports.splits import Splits, load_pipeline
from weightgen.storage.hub import load_part
from weightgen.weights import FunctionalNetwork

Score = Callable[[MetaVQATasks, Any], float]


def tuned(network: FunctionalNetwork, hypernet: Any, steps: int, inner_variable: str) -> Score:
    """A hypernetwork after gradient steps on the support set, from where it puts a task; the setting is the step size."""
    how: dict[str, Any] = {"steps": steps, "inner_variable": inner_variable}
    return lambda tasks, lr: fine_tuned_scores(network, hypernet, tasks, lr=lr, **how).macro


def sampled(run: Path, tasks: Splits, trust_remote_code: bool = False, **sampling: Any) -> Score:
    """Weights that HyperLDM samples; the setting is the pair of guidance scale and temperature."""
    pipe = load_pipeline(run, tasks, trust_remote_code)
    return lambda part, pair: (
        zero_shot(pipe, part, guidance_scale=pair[0], temperature=pair[1], **sampling).macro
    )


def guided(run: Path, network: FunctionalNetwork, decoder: Any, steps: int) -> Score:
    """Weights that HyperCLIP guidance reaches; the setting is the step size."""
    encoder = load_part(HyperCLIP, run / "encoder").requires_grad_(False)
    start = latent_start(decoder)
    return lambda tasks, lr: hyperclip_scores(network, decoder, encoder, tasks, start, steps, lr).macro


def retrieved(
    known: KnownWeights, neighbours: Sequence[int], noises: Sequence[float]
) -> dict[str, tuple[Score, Mapping[str, Any]]]:
    """Adapted weights of those training tasks whose question is known: row → its score, and the settings to choose from."""
    return {
        "neighbours_average": (
            known.average,
            {f"{k} neighbours": k for k in neighbours if k <= len(known.known)},
        ),
        "nearest_question": (known.average, {"1 neighbour": 1}),
        "noisy_neighbour": (known.noisy, {f"noise {noise}": noise for noise in noises}),
        "mean_weights": (known.mean, {"all": None}),
    }
