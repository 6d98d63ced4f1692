"""Sampling accuracy against the number of steps, for several schedulers: which is the cheapest that loses nothing?

    python recipes/compare_steps.py dataset=runs/demo/scenes/dataset \
        "pipelines=[runs/scenes/seed0/hyperldm_100,runs/scenes/seed1/hyperldm_100]" output=results/scenes

Writes figure_steps.{json,png}. "chosen" is the cheapest setting whose accuracy on validation tasks is at most 0.2 points below that of DDPM
with all steps of the schedule; accuracies are means over samples, ± over the pipelines, which are seeds of one training. One minute each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from tqdm import tqdm

from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import evaluate
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.reports.figures import draw_curves
from weightgen.reports.tables import spread, versions
from weightgen.storage.files import write_json, written_beside
from weightgen.training.config import parse

SCHEDULERS = {
    "DDIM": "DDIMScheduler",
    "DPM-Solver++": "DPMSolverMultistepScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "DDPM": "DDPMScheduler",
}
TOLERANCE = 0.002


@dataclass
class Config:
    dataset: str = MISSING
    pipelines: list[str] = MISSING  # outputs of train_hyperldm
    output: str = MISSING  # folder of the figure
    features: str | None = None
    steps: list[int] = field(default_factory=lambda: [5, 10, 20, 50])
    samples: int = 8  # of each task; the accuracy is their mean
    guidance_scale: float = 1.0
    splits: list[str] = field(default_factory=lambda: ["validation", "test"])
    seed: int = 0


def use(pipe: WeightPipeline, name: str) -> None:
    """Sample with another scheduler on the same schedule."""
    import diffusers

    config = {key: value for key, value in pipe.scheduler.config.items() if not key.startswith("_")}
    options = {} if name.startswith(("DPM", "UniPC")) else {"clip_sample": False}
    kept = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type"}
    pipe.scheduler = getattr(diffusers, name)(**{key: config[key] for key in kept}, **options)


def accuracy(cfg: Config, pipe: WeightPipeline, tasks: MetaVQATasks, steps: int) -> float:
    """Mean accuracy over all samples."""
    rows = [torch.Generator().manual_seed(cfg.seed * 1_000_003 + row) for row in range(len(tasks))]
    drawn, _ = pipe.sample(
        tasks.batch().embeds, num_samples=cfg.samples, num_inference_steps=steps,
        guidance_scale=cfg.guidance_scale, generator=rows,
    )  # fmt: skip
    return evaluate(pipe.space, pipe.network, tasks, lambda _, index: drawn[index]).macro


def choose(curves: Mapping[str, Mapping[str, Any]], reference: float) -> dict[str, Any]:
    """The fewest steps, and among those the best scheduler, whose mean is at most the tolerance below `reference`."""
    good = [
        (int(steps), -entry["mean"], name)
        for name, curve in curves.items()
        for steps, entry in curve.items()
        if entry["mean"] >= reference - TOLERANCE
    ]
    if not good:
        return {"scheduler": None, "steps": None, "why": "no setting comes so close to all steps of DDPM"}
    steps, accuracy, name = min(good)
    return {"scheduler": name, "steps": steps, "validation_accuracy": -accuracy}


def main(cfg: Config) -> None:
    if not cfg.pipelines or cfg.samples < 1 or "validation" not in cfg.splits:
        raise InputError("expected pipelines, samples from 1 up, and validation among the splits")
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
    if missing := [name for name in cfg.splits if name not in splits]:
        raise InputError(f"{cfg.dataset} has no split {missing[0]!r}, but {', '.join(splits)}")
    pipes = [WeightPipeline.from_pretrained(folder) for folder in cfg.pipelines]
    most = int(pipes[0].scheduler.config.num_train_timesteps)
    settings = [(label, steps) for label in SCHEDULERS for steps in cfg.steps] + [("DDPM", most)]
    found: dict[str, dict[str, dict[str, Any]]] = {split: {} for split in cfg.splits}
    for label, steps in tqdm(settings, desc="sampling"):
        for pipe in pipes:
            use(pipe, SCHEDULERS[label])
        for split in cfg.splits:
            tasks = MetaVQATasks(splits[split], store)
            values = [accuracy(cfg, pipe, tasks, steps) for pipe in pipes]
            found[split].setdefault(label, {})[str(steps)] = spread(values)
    full = {split: curves["DDPM"].pop(str(most)) for split, curves in found.items()}
    chosen = choose(found["validation"], full["validation"]["mean"])
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    report = {
        "settings": vars(cfg),
        "versions": versions(),
        "chosen": chosen,
        f"DDPM, {most} steps": full,
        "curves": found,
    }
    write_json(output / "figure_steps.json", report)
    lines = {f"DDPM, {most} steps": full["test"]} if "test" in full else {}
    shown = "test" if "test" in found else "validation"
    with written_beside(output / "figure_steps.png", overwrite=True) as partial:
        title = f"Accuracy against sampling steps, {shown} tasks"
        draw_curves(found[shown], lines, partial, "steps", title)
    print(f"DDPM with {most} steps: {full['validation']['mean']:.4f} on validation tasks; chosen: {chosen}")


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
