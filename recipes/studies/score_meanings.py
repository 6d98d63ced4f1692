"""Score what `scale_meanings.py` has trained with one seed: accuracy, likelihood and calibration by number of training meanings.

    python recipes/studies/score_meanings.py dataset=... runs=runs/meanings/seed0 "meanings=[50,100]" output=runs/meanings/seed0/scores.json

Writes row → split → number of meanings → scores. The number of neighbours is chosen on validation tasks. A minute for each number.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import MISSING
from torch import Tensor

from weightgen import WeightPipeline, training
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.evaluation import chance_scores, encoder_scores, task_streams
from weightgen.evaluation.baselines import neighbours_average
from weightgen.evaluation.ensembles import ensemble_scores
from weightgen.reports.choice import best_setting
from weightgen.reports.splits import load_splits
from weightgen.storage.files import write_json
from weightgen.weights import FunctionalNetwork

KINDS = {"pooled": "clip", "tokens": "tokens"}  # the names of their features
Splits = dict[str, MetaVQATasks]


@dataclass
class Config:
    dataset: str = MISSING
    runs: str = MISSING  # the folder of one seed
    output: str = MISSING  # JSON file
    meanings: list[int] = MISSING
    diffusion: bool = True  # whether HyperLDM was trained too
    samples: int = 4  # of HyperLDM, whose answers are averaged
    neighbours: list[int] = field(default_factory=lambda: [1, 2, 5, 10, 20])  # known questions to average


def scores_of(network: FunctionalNetwork, part: MetaVQATasks, weights: Tensor) -> dict[str, float]:
    """Scores of the average of the K networks (T, K, P) of each task."""
    size = weights.shape[1]
    return ensemble_scores(network, part, lambda _, rows: weights[rows], [size])[size]._asdict()


def sampled(cfg: Config, folder: Path, tasks: Splits) -> dict[str, dict[str, dict[str, float]]]:
    """Row → split → scores of HyperLDM in `folder`, and of the average of the weights that it has learned from."""
    pipe = WeightPipeline.from_pretrained(folder / "hyperldm_tokens")
    known = load_splits(str(folder / "data"), "tokens", ("train",), train=True)["train"].embeds
    weights = training.AdaptedTasks.load(folder / "adapted_tokens").mean_weights()

    def near(part: MetaVQATasks, k: int) -> dict[str, float]:
        return scores_of(pipe.network, part, neighbours_average(weights, known, part.embeds, k)[:, None])

    numbers = [k for k in cfg.neighbours if k <= len(known)]
    k, _ = best_setting(lambda k: near(tasks["validation"], k)["accuracy"], numbers, "neighbours")
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for split, part in tasks.items():
        how = {"num_samples": cfg.samples, "guidance_scale": 1.0, "generator": task_streams(len(part))}
        drawn, _ = pipe.sample(part.embeds, **how)
        for number, row in ((1, "HyperLDM"), (cfg.samples, f"HyperLDM, {cfg.samples} samples")):
            found = scores_of(pipe.network, part, drawn[:, :number])
            rows.setdefault(f"{row}, tokens", {})[split] = found
        rows.setdefault("neighbours' average, tokens", {})[split] = near(part, k)
    return rows


@torch.no_grad()
def main(cfg: Config) -> None:
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}

    def add(row: str, split: str, count: int, value: dict[str, float]) -> None:
        found.setdefault(row, {}).setdefault(split, {})[str(count)] = value

    for kind, features in KINDS.items():
        tasks = load_splits(cfg.dataset, features, ("validation",), questions=True)
        for count in cfg.meanings:
            folder = Path(cfg.runs, str(count))
            network, hypernet = training.load_run(folder / f"cond_multitask_{kind}", "cpu")
            for split, part in tasks.items():
                fixed = {"chance": chance_scores(part), "encoder with the question": encoder_scores(part)}
                for row, score in fixed.items():
                    add(row, split, count, {"accuracy": score.macro})
                learned = scores_of(network, part, hypernet(part.embeds)[:, None])
                add(f"Cond. Multitask, {kind}", split, count, learned)
            if cfg.diffusion and kind == "tokens":
                for row, splits in sampled(cfg, folder, tasks).items():
                    for split, value in splits.items():
                        add(row, split, count, value)
    write_json(cfg.output, {"rows": found})


if __name__ == "__main__":
    training.run(main, Config, __doc__)
