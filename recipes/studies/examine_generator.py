r"""Examine a trained generator on held-out tasks: memory of its training weights, ensembles, and adaptation from what it samples.

    python recipes/examine_generator.py dataset=... pipeline=runs/scenes/seed0/hyperldm_100 adapted=runs/scenes/seed0/adapted \
        output=results/scenes/examined.json

Writes one JSON file, with "memorisation" (weightgen.evaluation.memorisation), "ensembles" (accuracy, negative log-likelihood and calibration
against the number of samples, averaged as probabilities and as weights), "steps" and "shots" (few-shot accuracy from a sampled point
and from the start of `adapted`, such as MAML's). Step size: the one `adapted` used.
About 2 to 3 minutes on 2 CPU cores.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.curves import shot_curve, step_curve
from weightgen.evaluation.ensembles import AVERAGES, ensemble_scores
from weightgen.evaluation.memorisation import memorisation_report
from weightgen.hypernets.saving import load_hypernet
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.storage.files import read_json, read_tensors, write_json
from weightgen.training.config import parse


@dataclass
class Config:
    dataset: str = MISSING
    pipeline: str = MISSING  # output of train_hyperldm
    adapted: str = MISSING  # output of adapt_tasks: what the pipeline learned from, and where few-shot learning starts without it
    output: str = MISSING  # JSON file
    features: str | None = None
    split: str = "test"
    guidance_scale: float = 1.5
    num_inference_steps: int = 20
    samples: list[int] = field(default_factory=lambda: [1, 2, 4, 8])  # sizes of ensembles
    steps: list[int] = field(default_factory=lambda: [0, 1, 5, 10, 50])
    shots: list[int] = field(default_factory=lambda: [1, 2, 5, 10])  # examples of each class
    shot_steps: int = 50
    seed: int = 0


def load_tasks(cfg: Config) -> tuple[MetaVQATasks, MetaVQATasks]:
    """The training tasks and those of the split.

    Raises:
        InputError: there is no such split.
    """
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
    if cfg.split not in splits:
        raise InputError(f"{cfg.dataset} has no split {cfg.split!r}, but {', '.join(splits)}")
    return MetaVQATasks(splits["train"], store), MetaVQATasks(splits[cfg.split], store)


def load_training_weights(cfg: Config, size: int, tasks: int) -> Tensor:
    """Adapted weights (R, T, P) of the training tasks.

    Raises:
        InputError: none were kept, or they are of another data set or network.
    """
    tensors = read_tensors(Path(cfg.adapted) / "adapted.safetensors")
    if "weights" not in tensors:
        raise InputError(f"{cfg.adapted} has no weights: run adapt_tasks with keep_weights=true")
    if tensors["weights"].shape[1:] != (tasks, size):
        raise InputError(
            f"{cfg.adapted} has weights of shape {tuple(tensors['weights'].shape)}, expected (draws, {tasks}, {size}): "
            "give the adapted weights of this data set and pipeline"
        )
    return tensors["weights"]


def main(cfg: Config) -> None:
    if min(cfg.samples, default=0) < 1:
        raise InputError(f"expected numbers of samples from 1 up, got {cfg.samples}")
    train, tasks = load_tasks(cfg)
    pipe = WeightPipeline.from_pretrained(cfg.pipeline)
    space, network, facts = pipe.space, pipe.network, read_json(Path(cfg.adapted) / "adapted.json")
    if facts.get("point", "weights") != "weights":
        raise InputError(
            f"{cfg.adapted} adapted {facts['point']}: give one of weights, to compare few-shot learning with"
        )
    training = load_training_weights(cfg, space.size, len(train))
    start = load_hypernet(cfg.adapted, "adapted.json").requires_grad_(False)
    generators = [torch.Generator().manual_seed(cfg.seed * 1_000_003 + row) for row in range(len(tasks))]
    drawn, _ = pipe.sample(
        tasks.batch().embeds, num_samples=max(cfg.samples), guidance_scale=cfg.guidance_scale,
        num_inference_steps=cfg.num_inference_steps, generator=generators,
    )  # fmt: skip
    starts: dict[str, Callable[..., Tensor]] = {
        "sampled": lambda _, rows: drawn[rows, 0],
        "start of adapted": lambda batch, _: start(batch.embeds),
    }
    few = {name: {"lr": facts["lr"], "start_of": start_of} for name, start_of in starts.items()}

    report: dict[str, Any] = {"settings": vars(cfg), "tasks": len(tasks), "lr": facts["lr"]}
    embeds = train.batch().embeds
    sampled = {"sampled": drawn[:, :2]}
    report["memorisation"] = memorisation_report(
        space, network, tasks, sampled, training, embeds, seed=cfg.seed
    )
    report["ensembles"] = {
        average: {
            count: scores._asdict()
            for count, scores in ensemble_scores(
                space, network, tasks, lambda _, rows: drawn[rows], cfg.samples, average
            ).items()
        }
        for average in AVERAGES
    }
    report["steps"] = {
        name: {k: s.macro for k, s in step_curve(space, network, tasks, steps=cfg.steps, **how).items()}
        for name, how in few.items()
    }
    report["shots"] = {
        name: {
            n: fmean(s.macro for s in scores)
            for n, scores in shot_curve(
                space, network, tasks, shots=cfg.shots, steps=cfg.shot_steps, seeds=[cfg.seed], **how
            ).items()
        }
        for name, how in few.items()
    }
    Path(cfg.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(cfg.output), report)
    for part in ("memorisation", "ensembles", "steps", "shots"):
        print(part, report[part])


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
