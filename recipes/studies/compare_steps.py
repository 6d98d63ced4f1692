r"""Sampling accuracy against the number of steps, for several schedulers: which is the cheapest that loses nothing?

    python recipes/studies/compare_steps.py dataset=runs/demo/photos/dataset \
        "pipelines=[runs/scenes/seed0/hyperldm_100,runs/scenes/seed1/hyperldm_100]" output=results/scenes/figure_steps

Writes `output`.json and .png. "chosen" is the cheapest setting whose accuracy on validation tasks is at most 0.2 points below that of DDPM
with all steps of the schedule; accuracies are means over samples, ± over the pipelines, which are seeds of one training.
Nava, Kobayashi et al., 2023: section 4.2. 1 minute for each pipeline on one CPU thread.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from weightgen import WeightPipeline, training
from weightgen.errors import InputError
from weightgen.evaluation import zero_shot
from weightgen.reports.figures import draw_curves
from weightgen.reports.splits import load_pipeline, load_splits
from weightgen.reports.tables import spread, versions
from weightgen.storage.files import write_json

SCHEDULERS = {
    "DDIM": "DDIMScheduler",
    "DPM-Solver++": "DPMSolverMultistepScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "DDPM": "DDPMScheduler",
}
TOLERANCE = 0.002


@dataclass
class Config:
    dataset: str = training.MISSING
    pipelines: list[str] = training.MISSING  # outputs of train_hyperldm
    output: str = training.MISSING  # .json and .png are added
    features: str | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    steps: list[int] = field(default_factory=lambda: [5, 10, 20, 50])
    samples: int = 8  # of each task; the accuracy is their mean
    guidance_scale: float = 1.0
    splits: list[str] = field(default_factory=lambda: ["validation", "test"])
    seed: int = 0


def use(pipe: WeightPipeline, name: str) -> None:
    """Sample with another scheduler on the same schedule."""
    import diffusers

    options = {} if name.startswith(("DPM", "UniPC")) else {"clip_sample": False}
    kept = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")
    same = {key: pipe.scheduler.config[key] for key in kept}
    pipe.scheduler = getattr(diffusers, name)(**same, **options)


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
    tasks = load_splits(cfg.dataset, cfg.features, needs=cfg.splits, questions=True)
    pipes = [load_pipeline(folder, tasks, cfg.trust_remote_code) for folder in cfg.pipelines]
    most = int(pipes[0].scheduler.config.num_train_timesteps)
    settings = [(label, steps) for label in SCHEDULERS for steps in cfg.steps] + [("DDPM", most)]
    how = {"seed": cfg.seed, "num_samples": cfg.samples, "guidance_scale": cfg.guidance_scale}
    found: dict[str, dict[str, dict[str, Any]]] = {split: {} for split in cfg.splits}
    for label, steps in tqdm(settings, desc="sampling"):
        for pipe in pipes:
            use(pipe, SCHEDULERS[label])
        for split in cfg.splits:
            values = [zero_shot(pipe, tasks[split], num_inference_steps=steps, **how).macro for pipe in pipes]
            found[split].setdefault(label, {})[str(steps)] = spread(values)
    full = {split: curves["DDPM"].pop(str(most)) for split, curves in found.items()}
    chosen = choose(found["validation"], full["validation"]["mean"])
    report = {
        "settings": vars(cfg),
        "versions": versions(),
        "chosen": chosen,
        f"DDPM, {most} steps": full,
        "curves": found,
    }
    Path(cfg.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(f"{cfg.output}.json", report)
    shown = "test" if "test" in found else cfg.splits[-1]
    lines, title = {f"DDPM, {most} steps": full[shown]}, f"Accuracy against sampling steps, {shown} tasks"
    draw_curves(found[shown], lines, f"{cfg.output}.png", "steps", title)
    print(f"DDPM with {most} steps: {full['validation']['mean']:.4f} on validation tasks; chosen: {chosen}")


if __name__ == "__main__":
    training.run(main, Config, __doc__)
