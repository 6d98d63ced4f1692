"""Score every method of one seed that `reproduce.py` has trained, on held-out tasks; choose settings on validation tasks.

    python recipes/studies/score_methods.py dataset=... runs=runs/scenes/seed0 output=runs/scenes/seed0/scores.json

Rows are accuracies by split, zero-shot and few-shot; "chosen" says what the validation tasks chose, "curve" has HyperLDM's accuracy on test
tasks at every guidance scale. Nava, Kobayashi et al., 2023: tables 1 and 4, figures 3 and 5. 10 minutes on one CPU thread for Scenes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.data.meta_vqa.tasks import load_tasks
from weightgen.errors import InputError
from weightgen.evaluation.retrieval import KnownWeights
from weightgen.reports.choice import score_chosen
from weightgen.reports.evaluation import encoder_rows
from weightgen.reports.methods import CONDITIONAL, UNCONDITIONAL
from weightgen.reports.scorers import Score, guided, retrieved, sampled, tuned
from weightgen.reports.splits import Splits, load_pipeline, load_splits, scored_split
from weightgen.storage.files import read_json, write_json
from weightgen.tasks import random_subset


@dataclass
class Config:
    dataset: str = training.MISSING
    runs: str = training.MISSING  # folder with the outputs of one seed
    output: str = training.MISSING  # scores.json
    features: str | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions
    scales: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    guidance_steps: int = 10
    guidance_lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    few_shot_steps: int = 50
    few_shot_lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    num_inference_steps: int = 20
    temperatures: list[float] = field(default_factory=lambda: [1.0, 0.5])  # of the samples of HyperLDM
    latents_from: str = "hnet_maml"  # the run whose HNet HyperCLIP guidance moves
    neighbours: list[int] = field(default_factory=lambda: [1, 2, 5, 10, 20])  # known questions to average
    noises: list[float] = field(
        default_factory=lambda: [0.1, 0.3, 1.0]
    )  # in standard deviations of the adapted weights
    seed: int = 0


def score_all(cfg: Config, tasks: Splits) -> dict[str, dict[str, Any]]:
    """The rows of all methods."""
    rows: dict[str, dict[str, Any]] = {}

    def add(name: str, score: Score, settings: Mapping[str, Any], curve: bool = False) -> None:
        def of(split: str, label: str) -> float:
            return score(tasks[split], settings[label])

        row = score_chosen(of, tasks, settings, what=name)
        rows[name] = row | ({"curve": {label: of(test, label) for label in row["tried"]}} if curve else {})
        print(f"{name}: {row[test]:.3f} ({row['chosen']})", flush=True)

    none, most, test, runs = {"zero-shot": 0.0}, max(cfg.shares), scored_split(tasks), Path(cfg.runs)
    descent = {f"{cfg.few_shot_steps} steps of {lr}": lr for lr in cfg.few_shot_lrs}
    walks = {f"{cfg.guidance_steps} steps of {lr}": lr for lr in cfg.guidance_lrs}
    samples = {f"scale {s}, temperature {t}": (s, t) for t in cfg.temperatures for s in cfg.scales}
    theirs = {f"scale {s}, temperature 1.0": (s, 1.0) for s in cfg.scales}  # all that the paper knows
    how = {"seed": cfg.seed, "num_inference_steps": cfg.num_inference_steps}
    adapted = training.AdaptedTasks.load(runs / "adapted")
    (train,) = load_tasks(cfg.dataset, "train", features=cfg.features)

    def stepped(name: str, steps: int) -> Score:
        return tuned(*training.load_run(runs / name), steps, "latents" if "hnet_maml" in name else "weights")

    for name in UNCONDITIONAL:
        add(name, stepped(name, 0), none)
        add(f"few_shot_{name}", stepped(name, cfg.few_shot_steps), descent)
    for share in cfg.shares:
        known = random_subset(len(train), share / 100, cfg.seed)
        weights = KnownWeights(adapted.network, adapted.weights[:, known], train.embeds[known])
        nearest = retrieved(weights, cfg.neighbours, cfg.noises)
        for name, (score, tried) in nearest.items():
            add(f"{name}_{share}", score, tried)
        for name, tried in {"hyperldm": samples, "hyperldm_paper": theirs, "hyperldm_hnet": samples}.items():
            score = sampled(runs / f"{name}_{share}", tasks, cfg.trust_remote_code, **how)
            add(f"{name}_{share}", score, tried, curve=name == "hyperldm")
        for name in CONDITIONAL:
            add(f"{name}_{share}", stepped(f"{name}_{share}", 0), none)
        for name, decoder in {"hyperclip": "hvae", "hyperclip_hnet": cfg.latents_from}.items():
            add(
                f"{name}_{share}",
                guided(runs / f"{name}_{share}", *training.load_run(runs / decoder), cfg.guidance_steps),
                walks,
            )
    for name in CONDITIONAL:
        add(f"few_shot_{name}", stepped(f"{name}_{most}", cfg.few_shot_steps), descent)
    return rows


def main(cfg: Config) -> None:
    if not (folder := Path(cfg.runs) / f"hyperldm_{max(cfg.shares)}").is_dir():
        raise InputError(f"no folder {folder}: recipes/reproduce.py makes it")
    tasks = load_splits(cfg.dataset, cfg.features, needs=("validation",), questions=True)
    encoder = load_pipeline(folder, tasks, cfg.trust_remote_code).encoder
    known = {name: encoder_rows(encoder, part) for name, part in tasks.items() if name != "validation"}
    fixed = {row: {name: known[name][row] for name in known} for row in next(iter(known.values()))}
    names = [f"{name}_{share}" for name in ("hyperclip", "hyperclip_hnet") for share in cfg.shares]
    inference = {name: read_json(Path(cfg.runs) / name / "training.json")["test"] for name in names}
    write_json(cfg.output, {"rows": {**fixed, **score_all(cfg, tasks)}, "task_inference": inference})


if __name__ == "__main__":
    training.run(main, Config, __doc__)
