"""Accuracy of a HyperTransformer over few-shot episodes of classes it has not seen, with a 95 % interval.

    python recipes/evaluate_episodes.py run=runs/omniglot_1shot_8ch data=runs/omniglot output=results/omniglot/1shot_8ch.json

Four figures: batch norm on the statistics of the query set (`transductive`, as in the paper) or of the support set (each query image for
itself), and query images apart from the support images (`disjoint`) or drawn without regard to them (`overlapping`, as in the released
code). With `watch=true` every new checkpoint of a run that goes on is evaluated, one line of JSON each. About 6 ms per episode and figure
on one CPU thread (8 channels, 1-shot); on a busy machine, set OMP_NUM_THREADS=1.
"""

import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING

from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.errors import InputError, one_line_errors
from weightgen.hypernets.support_writer import check_support
from weightgen.objectives.episodic import EpisodicLoss, episode_accuracies
from weightgen.storage.files import read_json, write_json
from weightgen.storage.hub import load_part
from weightgen.training.checkpoint import read_metrics
from weightgen.training.config import component, parse


@dataclass
class Config:
    run: str = MISSING  # output of train_hypertransformer
    data: str = MISSING  # folder of few-shot images
    output: str | None = None  # JSON file to write
    split: str = "test"
    episodes: int = 1000
    queries: int = 5  # per class
    shots: int | None = None  # by default as in training
    unlabeled: int | None = None  # by default as in training
    groups: int | None = None  # classes of an episode from so many groups (alphabets): harder than from all
    transductive: list[bool] = field(default_factory=lambda: [True, False])
    overlap: list[bool] = field(default_factory=lambda: [False, True])
    batch_size: int = 8
    watch: bool = False
    watch_every: float = 60.0  # seconds between looks
    seed: int = 1
    device: str = "cpu"


def interval(accuracies: torch.Tensor) -> dict[str, float]:
    """Mean and half the 95 % interval over episodes, in per cent."""
    spread = 1.96 * accuracies.std().item() / math.sqrt(len(accuracies))
    return {"accuracy": round(100 * accuracies.mean().item(), 2), "interval": round(100 * spread, 2)}


def phases(run: Path) -> list[dict[str, Any]]:
    """The settings of a run, and those with which it went on later."""
    later = sorted(run.glob("training_from_*.json"), key=lambda path: int(path.stem.rpartition("_")[2]))
    first = {"from_step": 0} | read_json(run / "training.json")
    return [first, *({"from_step": int(p.stem.rpartition("_")[2])} | read_json(p) for p in later)]


def evaluate(cfg: Config, arrays: FewShotArrays, settings: dict[str, Any]) -> dict[str, dict[str, float]]:
    kind = {"_component_": settings["hypernet"]["_component_"]}
    hypernet = load_part(component(kind), Path(cfg.run) / "hypernet").to(cfg.device).eval()
    found = {}
    for transductive in cfg.transductive:
        for overlap in cfg.overlap:
            episodes = Episodes(
                arrays,
                arrays.classes(cfg.split),
                ways=hypernet.network.num_classes,
                shots=settings["shots"] if cfg.shots is None else cfg.shots,
                unlabeled=settings["unlabeled"] if cfg.unlabeled is None else cfg.unlabeled,
                queries=cfg.queries,
                batch_size=cfg.batch_size,
                groups=cfg.groups,
                overlap=overlap,
                mean=settings["mean"],
                std=settings["std"],
                seed=cfg.seed,
            )
            check_support(episodes.batch(0).support, hypernet.network)
            name = f"{'transductive' if transductive else 'support statistics'}, {'overlapping' if overlap else 'disjoint'}"
            found[name] = interval(
                episode_accuracies(EpisodicLoss(hypernet, transductive), episodes, cfg.episodes)
            )
    return found


def check_device(name: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: naming it.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"cannot compute on {name!r}: {str(error).splitlines()[0]}") from error


def main(cfg: Config) -> None:
    run = Path(cfg.run)
    if not (run / "metrics.jsonl").exists() and not cfg.watch:
        raise InputError(f"{run} has no checkpoint yet: write watch=true to wait for one")
    if cfg.episodes < 2 or not cfg.transductive or not cfg.overlap:
        raise InputError(
            "expected at least two episodes, for an interval, and something in transductive and overlap"
        )
    check_device(cfg.device)
    arrays = FewShotArrays(cfg.data)
    seen = None
    while True:
        rows = read_metrics(run / "metrics.jsonl")
        if rows and rows[-1]["step"] != seen:
            seen, training = rows[-1]["step"], phases(run)
            results = evaluate(cfg, arrays, training[-1])
            report = {"step": seen, "episodes_trained": int(rows[-1]["episodes"]), "split": cfg.split,
                      "episodes": cfg.episodes, "queries_per_class": cfg.queries, "groups": cfg.groups, "seed": cfg.seed,
                      "results": results, "command": " ".join(["python", *sys.argv]), "training": training}  # fmt: skip
            print(
                json.dumps({key: report[key] for key in ("step", "episodes_trained", "results")}), flush=True
            )
            if cfg.output:
                write_json(cfg.output, report)
        if not cfg.watch or (seen and seen >= phases(run)[-1]["steps"]):
            return
        time.sleep(cfg.watch_every)


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
