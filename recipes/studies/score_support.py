r"""Score SupportHNets on held-out tasks beside gradient descent on the very same examples.

    python recipes/score_support.py dataset=runs/demo/scenes/dataset runs=[runs/scenes/seed0/support,runs/scenes/seed1/support] \
        starts=[runs/scenes/seed0/maml,runs/scenes/seed1/maml] output=results/scenes/support

Writes `output`.json and `output`.md: accuracy with `shots` examples of each class and with all, mean ± standard deviation over the runs,
which should be of several training seeds; and milliseconds for each task, of both in turns. Step sizes of gradient descent are chosen
on validation tasks, one for each number of examples. About 3 minutes for each run on one CPU thread.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor, nn
from tqdm import tqdm

from weightgen.adaptation import adapt
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import chance_scores, clip_scores
from weightgen.evaluation.curves import ALL, one_pass_curve, shot_curve
from weightgen.hypernets import SharedWeights, SupportHNet
from weightgen.networks import CLIPAdapter
from weightgen.reports.tables import (
    HELD_OUT,
    over_seeds,
    spread_by_shots,
    table,
    tables_by_shots,
    versions,
    write_report,
)
from weightgen.storage.hub import load_part
from weightgen.training.config import parse


@dataclass
class Config:
    dataset: str = MISSING
    runs: list[str] = MISSING  # outputs of train_support
    starts: list[str] = (
        MISSING  # outputs of train_hypernet with SharedWeights, where gradient descent starts; one for each run
    )
    output: str = MISSING  # .json and .md are added
    features: str | None = None
    shots: list[int] = field(default_factory=lambda: [1, 2, 5, 0])  # examples of each class; 0: all
    steps: int = 50
    lrs: list[float] = field(default_factory=lambda: [0.3, 1.0, 3.0])
    timed_tasks: int = 20
    timed_batch: int = 32
    seed: int = 0  # of the choice of examples


class Rival:
    """Gradient descent from the weights in `folder`, and the step size for each number of examples."""

    def __init__(self, folder: str, cfg: Config, validation: MetaVQATasks) -> None:
        self.cfg = cfg
        self.network = load_part(CLIPAdapter, Path(folder) / "network")
        self.shared = load_part(SharedWeights, Path(folder) / "hypernet").requires_grad_(False)
        tried = {lr: self.curve(validation, dict.fromkeys(cfg.shots, lr)) for lr in cfg.lrs}
        self.lrs = {count: max(tried, key=lambda lr: tried[lr][count]) for count in cfg.shots}

    def curve(self, tasks: MetaVQATasks, lrs: dict[int, float]) -> dict[int, float]:
        """Accuracy by number of examples."""
        space, steps, seeds = self.shared.space, self.cfg.steps, [self.cfg.seed]
        return {
            count: shot_curve(
                space, self.network, tasks, lambda batch, _: self.shared(batch.embeds), [count or ALL], steps, lr, seeds
            )[count or ALL][0].macro
            for count, lr in lrs.items()
        }  # fmt: skip


def seconds(runs: dict[str, Callable[[], Tensor]], repeats: int = 5) -> dict[str, float]:
    """Seconds of each of several runs, taken in turns: the median."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first is a warm-up
                took[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in took.items()}


@torch.no_grad()
def milliseconds(
    hypernet: SupportHNet, rival: Rival, network: nn.Module, tasks: MetaVQATasks, cfg: Config
) -> dict[str, Any]:
    """Milliseconds for each task with all its examples, one task at a time and in batches."""
    found: dict[str, Any] = {}
    for name, sets in {
        "alone": [[row] for row in range(min(cfg.timed_tasks, len(tasks)))],
        f"batches of {cfg.timed_batch}": [list(range(min(cfg.timed_batch, len(tasks))))],
    }.items():
        rows = []
        for chosen in sets:
            b = tasks.batch(chosen)
            start, lr = rival.shared(b.embeds), rival.lrs[0] if 0 in rival.lrs else cfg.lrs[0]
            ways = {
                "one pass": lambda b=b: hypernet(b.support, b.context["answers"]),
                "gradient descent": lambda b=b, w=start, lr=lr: adapt(
                    hypernet.space, network, w, b.support, b.context, steps=cfg.steps, lr=lr
                ),
            }
            rows.append({way: 1000 * s / len(chosen) for way, s in seconds(ways).items()})
        found[name] = {way: median(row[way] for row in rows) for way in rows[0]}
    return found


def markdown(accuracy: dict[str, Any], times: dict[str, Any], cfg: Config) -> str:
    """The report as people read it."""
    title = f"Weights from examples, on the same examples. Accuracy in %, {over_seeds(len(cfg.runs))}.\n"
    threads = torch.get_num_threads()
    clock = f"\nMilliseconds for a task, all its examples, {threads} CPU thread{'s' * (threads > 1)}.\n\n"
    ways = {way: [f"{times[how][way]:.1f}" for how in times] for way in next(iter(times.values()))}
    return title + tables_by_shots(accuracy, cfg.shots) + clock + table(list(times), ways)


def main(cfg: Config) -> None:
    if not cfg.runs or len(cfg.runs) != len(cfg.starts):
        raise InputError(
            f"expected one of starts for each of runs, got {len(cfg.starts)} and {len(cfg.runs)}"
        )
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
    validation = MetaVQATasks(splits["validation"], store)
    held_out = {name: MetaVQATasks(splits[name], store) for name in HELD_OUT if name in splits}
    descent = f"{cfg.steps} gradient steps"
    seen: dict[str, dict[str, list[dict[int, float]]]] = {name: {} for name in held_out}
    lrs, times = [], []
    for run, start in zip(tqdm(cfg.runs, desc="scoring"), cfg.starts, strict=True):
        hypernet = load_part(SupportHNet, Path(run) / "hypernet").requires_grad_(False)
        network = load_part(CLIPAdapter, Path(run) / "network")
        rival = Rival(start, cfg, validation)
        lrs.append(rival.lrs)
        for name, tasks in held_out.items():
            written = one_pass_curve(
                network, tasks, hypernet, [count or ALL for count in cfg.shots], cfg.seed
            )
            rows = {
                "chance": dict.fromkeys(cfg.shots, chance_scores(tasks).macro),
                "CLIP": dict.fromkeys(cfg.shots, clip_scores(tasks).macro),
                descent: rival.curve(tasks, rival.lrs),
                "SupportHNet, one pass": {count: written[count or ALL].macro for count in cfg.shots},
            }
            for row, values in rows.items():
                seen[name].setdefault(row, []).append(values)
        times.append(milliseconds(hypernet, rival, network, validation, cfg))
    accuracy = spread_by_shots(seen, cfg.shots)
    took = {how: {way: median(t[how][way] for t in times) for way in times[0][how]} for how in times[0]}
    report = {
        "settings": asdict(cfg),
        "versions": versions(),
        "lrs": lrs,
        "accuracy": accuracy,
        "milliseconds": took,
    }
    write_report(cfg.output, report, markdown(accuracy, took, cfg))


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
