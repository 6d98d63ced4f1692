"""Accuracy of a HyperTransformer over few-shot episodes of classes it has not seen, with a 95 % interval.

    python recipes/evaluate_episodes.py run=runs/omniglot_1shot_8ch data=runs/omniglot output=results/omniglot/1shot_8ch.json

Four figures: batch norm on the statistics of the query set (`transductive`, as in the paper) or of the support set (each query image for
itself), and query images apart from the support images (`disjoint`) or drawn without regard to them (`overlapping`, as in the released
code). configs/evaluate_episodes has the protocols. With `follow=true` every new state of a run that goes on is evaluated, one line of JSON
each. Zhmoginov et al., 2022: table 1. About 6 ms per episode and figure on one CPU thread (8 channels, 1-shot); set OMP_NUM_THREADS=1.
"""

import json
import sys
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.errors import InputError, check_range, check_sizes
from weightgen.hypernets.support_writer import SupportWriter, check_support
from weightgen.objectives.episodic import EpisodicLoss, episode_accuracies
from weightgen.reports.tables import interval
from weightgen.reports.timing import check_device
from weightgen.storage.files import check_output, read_json, write_json


@dataclass
class Config:
    run: str = training.MISSING  # output of train_hypertransformer, finished or not
    data: str = training.MISSING  # folder of few-shot images
    output: str | None = None  # JSON file to write
    split: str = "test"
    episodes: int = 1000
    queries: int = 5  # per class
    query_batches: int = 1  # query sets of an episode, drawn and classified one after the other
    shots: int | None = None  # by default as in training
    unlabeled: int | None = None  # by default as in training
    groups: int | None = None  # classes of an episode from so many groups (alphabets): harder than from all
    transductive: list[bool] = field(default_factory=lambda: [True, False])
    overlap: list[bool] = field(default_factory=lambda: [False, True])
    batch_size: int = 8
    follow: bool = False
    follow_every: float = 60.0  # seconds between looks
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    seed: int = 1
    device: str = "cpu"


def evaluate(cfg: Config, arrays: FewShotArrays, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What the episodes hold, and the figures by protocol."""
    hypernet = training.load_module(folder, "hypernet", cfg.device, cfg.trust_remote_code, SupportWriter)
    network, found = hypernet.network, {}
    held = {
        "ways": network.num_classes, "shots": settings["shots"] if cfg.shots is None else cfg.shots,
        "unlabeled": settings["unlabeled"] if cfg.unlabeled is None else cfg.unlabeled, "groups": cfg.groups, "seed": cfg.seed,
    }  # fmt: skip
    common = held | training.pick(cfg, "queries", "batch_size")
    common |= {"mean": settings["mean"], "std": settings["std"]}
    for transductive, overlap in product(cfg.transductive, cfg.overlap):
        episodes = Episodes(arrays, arrays.classes(cfg.split), overlap=overlap, **common)
        check_support(episodes.batch(0).support, network)
        judged = EpisodicLoss(hypernet, transductive)
        right = episode_accuracies(judged, episodes, cfg.episodes, cfg.query_batches)
        statistics = "transductive" if transductive else "support statistics"
        found[f"{statistics}, {'overlapping' if overlap else 'disjoint'}"] = interval(right)
    return held | {"results": found}


def report_on(cfg: Config, arrays: FewShotArrays, folder: Path, step: int) -> dict[str, Any]:
    """Evaluate the state of a run after `step`."""
    settings, phases = training.read_facts(folder)["settings"], read_json(folder / "run.json")["phases"]
    return {
        "protocol": arrays.protocol,
        "step": step,
        "episodes_trained": step * settings["batch_size"],
        "split": cfg.split,
        "episodes": cfg.episodes,
        "queries_per_class": cfg.queries,
        "query_batches": cfg.query_batches,
        **evaluate(cfg, arrays, folder, settings),
        "command": " ".join(["python", *sys.argv]),
        "training": {"settings": settings, "phases": phases},
    }


def main(cfg: Config) -> None:
    if not (training.newest_state(cfg.run) / "training.json").is_file():
        if not cfg.follow:
            raise InputError(f"{cfg.run} has no checkpoint yet: write follow=true to wait for one")
        print(f"waiting for the first checkpoint of {cfg.run}", file=sys.stderr)
    check_sizes(query_batches=cfg.query_batches)
    check_range(follow_every=cfg.follow_every)
    if cfg.output:
        check_output(cfg.output)
    if cfg.episodes < 2 or not cfg.transductive or not cfg.overlap:
        raise InputError("expected at least two episodes, and something in transductive and overlap")
    check_device(cfg.device)
    training.warn_of_other_data(training.newest_state(cfg.run), data=cfg.data)
    arrays, seen = FewShotArrays(cfg.data), None
    while True:
        folder = training.newest_state(cfg.run)
        facts = training.read_facts(folder) if (folder / "training.json").is_file() else {"step": seen}
        if facts["step"] != seen:
            seen = facts["step"]
            report = report_on(cfg, arrays, folder, seen)
            print(
                json.dumps({key: report[key] for key in ("step", "episodes_trained", "results")}), flush=True
            )
            if cfg.output:
                write_json(cfg.output, report)
        if not cfg.follow or (seen and seen >= facts["settings"]["steps"]):
            return
        time.sleep(cfg.follow_every)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
