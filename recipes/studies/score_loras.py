r"""Score low-rank adapters that were generated from the questions of held-out tasks, beside what they are compared with: one seed.

    python recipes/studies/score_loras.py dataset=runs/demo-scenes/scenes/dataset runs=runs/loras seed=0 output=runs/loras/seed0/scores.json

Reads what `generate_loras.py` has trained. Guidance scale and number of neighbours are chosen on validation tasks. Adapters of the
generators are written as PEFT folders, and scored as `PeftModel.from_pretrained` loads them. 3 minutes on a CPU core.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weightgen import WeightPipeline, training
from weightgen.adaptation import fine_tune
from weightgen.data.zoo import Zoo
from weightgen.evaluation import chance_scores, evaluate, task_streams
from weightgen.evaluation.baselines import neighbours_average
from weightgen.hypernets import HNet
from weightgen.reports.loras import LoraScores, LoraStudy, as_network, explained, open_study, read_adapter
from weightgen.storage.files import read_json, write_json
from weightgen.tasks import TaskBatch

SPLITS = ("validation", "held_out_meanings")  # one question of each meaning


@dataclass
class Config:
    dataset: str = training.MISSING
    runs: str = "runs/loras"
    output: str = training.MISSING  # JSON file
    zoos: list[str] = field(default_factory=lambda: ["common", "own"])
    features: str = "clip"
    rank: int = 4
    neighbours: list[int] = field(default_factory=lambda: [1, 2, 5, 10, 20])
    scales: list[float] = field(default_factory=lambda: [1.0, 1.5, 2.0, 3.0])
    seed: int = 0


@torch.no_grad()
def of_zoo(cfg: Config, name: str, study: LoraStudy, scores: LoraScores) -> tuple[dict[str, Any], Any]:
    """Rows of what one zoo gives, and how much of its variance lies in a few directions."""
    runs, network, tasks = Path(cfg.runs), study.network, study.tasks
    zoo, pipe = (
        Zoo.load(runs / f"zoo_{name}"),
        WeightPipeline.from_pretrained(f"{cfg.runs}/seed{cfg.seed}/pipeline_{name}"),
    )
    train = [row for row, task in enumerate(zoo.tasks()) if task["split"] == "train"]
    known = as_network(zoo.space, network, zoo.rows(train)[:])
    embeds = pipe.encoder.encode_questions([zoo.tasks()[row]["text"] for row in train]).clone()

    def near(split: str, k: int) -> Tensor:
        return neighbours_average(known, embeds, tasks[split].embeds, k)

    def drawn(split: str, scale: float) -> Tensor:
        streams = task_streams(len(tasks[split]))
        found, _ = pipe.sample(tasks[split].embeds, guidance_scale=scale, generator=streams)
        return as_network(zoo.space, network, found[:, 0])

    rows = {
        "mean adapter": scores.same(known.mean(dim=0)),
        "nearest question's adapter": scores.chosen(near, [1]),
        "neighbours' average": scores.chosen(near, cfg.neighbours),
        "HVAE + HyperLDM": scores.chosen(drawn, cfg.scales, loaded=True),
    }
    end = "" if name == "common" else f", {name} starts"
    return {f"{row}{end}": found for row, found in rows.items()}, explained(known, (8, 32, 96))


def main(cfg: Config) -> None:
    runs = Path(cfg.runs)
    where = (cfg.dataset, cfg.features, SPLITS, runs / "tower", cfg.rank)
    study, asking = (open_study(*where, template=text).one_of_each() for text in ("{}", None))
    network, scores = study.network, LoraScores(study)
    start = read_adapter(network, runs / "common/start")
    rows: dict[str, Any] = {
        "chance": {name: chance_scores(part.tasks).macro for name, part in study.tasks.items()}
    }
    for end, own in (("", scores), (", question in the statement", LoraScores(asking))):
        rows[f"no adapter{end}"] = own.same(network.initial_weights)
        rows[f"multi-task LoRA{end}"] = own.same(start)
    variance = {}
    for name in cfg.zoos:
        found, variance[name] = of_zoo(cfg, name, study, scores)
        rows |= found
    writer = HNet.from_pretrained(runs / f"seed{cfg.seed}/written/hypernet").eval().requires_grad_(False)
    written = {split: writer(part.embeds) for split, part in study.tasks.items()}
    rows["hypernetwork on the tasks' loss"] = scores.chosen(lambda split, _: written[split], [0], loaded=True)
    fits = read_json(runs / "common/fits.json")

    def fitted(batch: TaskBatch, _: Tensor) -> Tensor:
        how = {"steps": fits["steps"], "lr": fits["lr"], "start": start.expand(len(batch.embeds), -1)}
        return fine_tune(network, None, batch, **how)

    rows["fine-tuned on the examples"] = {
        name: evaluate(network, part, fitted).macro for name, part in study.tasks.items()
    }
    write_json(cfg.output, {"rows": rows, "variance": variance, "fits": fits})


if __name__ == "__main__":
    training.run(main, Config, __doc__)
