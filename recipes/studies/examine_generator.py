r"""Examine a trained generator on held-out tasks: memory of its training weights, ensembles, and adaptation from what it samples.

    python recipes/studies/examine_generator.py dataset=... pipeline=runs/scenes/seed0/hyperldm_100 \
        adapted=runs/scenes/seed0/adapted output=results/scenes/examined.json

Writes one JSON file and a figure of accuracy against the distance to the nearest training weights. The JSON has "memorisation"
(weightgen.evaluation.memorisation), "ensembles" (accuracy, negative log-likelihood and calibration against the number of samples, averaged
as probabilities and as weights), "steps" and "shots" (few-shot accuracy from sampled weights and from the start of `adapted`, such as
MAML's). Step size: the one `adapted` used. Nava, Kobayashi et al., 2023: section 5.
2 to 3 minutes on 2 CPU cores.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from weightgen import training
from weightgen.adaptation import fine_tune
from weightgen.errors import InputError
from weightgen.evaluation import shot_curve, step_curve, task_streams
from weightgen.evaluation.baselines import neighbours_average
from weightgen.evaluation.ensembles import AVERAGES, ensemble_scores
from weightgen.evaluation.memorisation import memorisation_report
from weightgen.reports.figures import draw_points
from weightgen.reports.splits import load_pipeline, load_splits
from weightgen.reports.tables import title_of
from weightgen.storage.files import write_json
from weightgen.tasks import TaskBatch


@dataclass
class Config:
    dataset: str = training.MISSING
    pipeline: str = training.MISSING  # output of train_hyperldm
    adapted: str = training.MISSING  # output of adapt_tasks: what the pipeline learned from
    output: str = training.MISSING  # JSON file; the figure goes beside it
    conditional: str | None = None  # output of train_hypernet, to compare with
    neighbours: list[int] = field(
        default_factory=lambda: [5]
    )  # nearest known questions whose weights are averaged
    features: str | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    split: str = "test"
    guidance_scale: float = 1.5
    num_inference_steps: int = 20
    samples: list[int] = field(default_factory=lambda: [1, 2, 4, 8])  # sizes of ensembles
    steps: list[int] = field(default_factory=lambda: [0, 1, 5, 10, 50])
    shots: list[int] = field(default_factory=lambda: [1, 2, 5, 10])  # examples of each class
    shot_steps: int = 50
    seed: int = 0


def curves(cfg: Config, adapted: Any, tasks: Any, drawn: Tensor) -> dict[str, Any]:
    """Few-shot accuracy by gradient steps and by examples, from sampled weights and from the start of `adapted`."""
    network, start, lr = adapted.network, adapted.hypernet, adapted.lr
    starts = {
        "sampled": lambda _, rows: drawn[rows, 0],
        "start of adapted": lambda batch, _: start(batch.embeds),
    }
    found: dict[str, Any] = {"steps": {}, "shots": {}}
    for name, start_of in starts.items():

        def tuned(batch: TaskBatch, rows: Tensor, of: Any = start_of) -> Tensor:
            return fine_tune(network, None, batch, steps=cfg.shot_steps, lr=lr, start=of(batch, rows))

        steps = step_curve(network, tasks, steps=cfg.steps, lr=lr, start_of=start_of)
        shots = shot_curve(network, tasks, tuned, cfg.shots, [cfg.seed])
        found["steps"][name] = {count: scores.macro for count, scores in steps.items()}
        found["shots"][name] = {count: scores.macro for count, (scores,) in shots.items()}
    return found


def ensembles(network: Any, tasks: Any, drawn: Tensor, sizes: list[int], average: str) -> dict[int, Any]:
    """Scores of averages of the first samples, by their number."""
    found = ensemble_scores(network, tasks, lambda _, rows: drawn[rows], sizes, average)
    return {count: scores._asdict() for count, scores in found.items()}


def main(cfg: Config) -> None:
    if min(cfg.samples, default=0) < 1:
        raise InputError(f"expected numbers of samples from 1 up, got {cfg.samples}")
    splits = load_splits(cfg.dataset, cfg.features, needs=("train", cfg.split), train=True)
    train, tasks = splits["train"], splits[cfg.split]
    pipe = load_pipeline(cfg.pipeline, splits, cfg.trust_remote_code)
    adapted = training.AdaptedTasks.load(cfg.adapted, "cpu")
    network = pipe.network
    weights, expected = adapted.weights, (len(train), network.space.size)
    if weights.shape[1:] != expected:
        shape = f"has weights of shape {tuple(weights.shape)}, expected (draws, {expected[0]}, {expected[1]})"
        raise InputError(f"{cfg.adapted} {shape}: give the adapted weights of this data set and pipeline")
    how = {"guidance_scale": cfg.guidance_scale, "num_inference_steps": cfg.num_inference_steps}
    streams = task_streams(len(tasks), cfg.seed)
    drawn, _ = pipe.sample(tasks.embeds, num_samples=max(cfg.samples), generator=streams, **how)
    report: dict[str, Any] = {"settings": vars(cfg), "tasks": len(tasks), "lr": adapted.lr}
    sampled = {"sampled": drawn[:, :2]}
    if cfg.conditional:
        sampled["Cond. Multitask"] = training.load_run(cfg.conditional)[1](tasks.embeds)[:, None]
    for k in (k for k in cfg.neighbours if k <= len(train)):
        near = neighbours_average(weights.mean(dim=0), train.embeds, tasks.embeds, k)
        sampled[f"average of the {k} nearest"] = near[:, None]
    report["memorisation"] = memorisation_report(
        network, tasks, sampled, weights, train.embeds, seed=cfg.seed
    )
    report["ensembles"] = {
        average: ensembles(network, tasks, drawn, cfg.samples, average) for average in AVERAGES
    }
    report |= curves(cfg, adapted, tasks, drawn)
    Path(cfg.output).parent.mkdir(parents=True, exist_ok=True)
    write_json(cfg.output, report)
    rows = report["memorisation"]["rows"]
    points = {name: (row["distance"], row["accuracy"]) for name, row in rows.items()}
    where, title = Path(cfg.output).with_suffix(".png"), f"Novelty of weights for {title_of(cfg.split)}"
    draw_points(points, where, "distance to the nearest training weights / distance between tasks", title)
    print(*(f"{part} {report[part]}" for part in ("memorisation", "ensembles", "steps", "shots")), sep="\n")


if __name__ == "__main__":
    training.run(main, Config, __doc__)
