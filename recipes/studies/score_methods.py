"""Score every method of one seed that `reproduce.py` has trained, on held-out tasks; choose settings on validation tasks.

    python recipes/studies/score_methods.py dataset=... runs=runs/scenes/seed0 output=runs/scenes/seed0/scores.json

Rows are accuracies by split, zero-shot and few-shot; "chosen" says what the validation tasks chose, "curve" has HyperLDM's accuracy on test
tasks at every guidance scale. Nava, Kobayashi et al., 2023: tables 1 and 4, figures 3 and 5. 10 minutes on one CPU thread for Scenes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weightgen import training
from weightgen.data.meta_vqa.tasks import MetaVQATasks, load_tasks
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import InputError
from weightgen.evaluation import evaluate, zero_shot
from weightgen.evaluation.baselines import fine_tuned_scores, mean_weights, neighbours_average
from weightgen.evaluation.guided import hyperclip_scores
from weightgen.evaluation.memorisation import noisy_neighbours
from weightgen.hypernets import HNet
from weightgen.reports.choice import score_chosen
from weightgen.reports.evaluation import encoder_rows
from weightgen.reports.methods import CONDITIONAL, UNCONDITIONAL
from weightgen.reports.splits import Splits, load_pipeline, load_splits, scored_split
from weightgen.storage.files import read_json, write_json
from weightgen.storage.hub import load_part
from weightgen.tasks import random_subset

Score = Callable[[MetaVQATasks, Any], float]  # (tasks, setting) → accuracy


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


def tuned(cfg: Config, folder: str, steps: int) -> Score:
    """A hypernetwork after gradient steps on the support set, from where it puts a task; the setting is the step size."""
    network, hypernet = training.load_run(Path(cfg.runs) / folder)
    how = {"steps": steps, "inner_variable": "latents" if "hnet_maml" in folder else "weights"}
    return lambda tasks, lr: fine_tuned_scores(network, hypernet, tasks, lr=lr, **how).macro


def sampled(cfg: Config, folder: str, tasks: Splits) -> Score:
    """Weights that HyperLDM samples; the setting is the pair of guidance scale and temperature."""
    pipe = load_pipeline(Path(cfg.runs) / folder, tasks, cfg.trust_remote_code)
    how = {"seed": cfg.seed, "num_inference_steps": cfg.num_inference_steps}
    return lambda part, pair: zero_shot(pipe, part, guidance_scale=pair[0], temperature=pair[1], **how).macro


def start_of(decoder: Any) -> Tensor:
    """Where guidance starts: the learned latent of an HNet; of an HNet on questions, their mean; 0 for an HVAE."""
    if not isinstance(decoder, HNet):
        return torch.zeros(decoder.latent_dim)
    return decoder.condition.mean if decoder.start is None else decoder.start.detach()


def guided(cfg: Config, folder: str, decoder_folder: str) -> Score:
    """Weights that HyperCLIP guidance reaches; the setting is the step size."""
    runs, steps = Path(cfg.runs), cfg.guidance_steps
    encoder = load_part(HyperCLIP, runs / folder / "encoder").requires_grad_(False)
    network, decoder = training.load_run(runs / decoder_folder)
    start = start_of(decoder)
    return lambda tasks, lr: hyperclip_scores(network, decoder, encoder, tasks, start, steps, lr).macro


def retrieved(cfg: Config, share: int) -> dict[str, tuple[Score, Mapping[str, Any]]]:
    """Adapted weights of a share of the questions, the nearest to a new one: row → its score, and the settings to choose from."""
    adapted, (train,) = (
        training.AdaptedTasks.load(Path(cfg.runs) / "adapted"),
        load_tasks(cfg.dataset, "train", features=cfg.features),
    )
    rows = random_subset(len(train), share / 100, cfg.seed)
    weights, known, network = adapted.weights[:, rows], train.embeds[rows], adapted.network
    mean = weights.mean(dim=0)

    def near(part: MetaVQATasks, k: int) -> float:
        return evaluate(
            network, part, lambda batch, _: neighbours_average(mean, known, batch.embeds, k)
        ).macro

    def noisy(part: MetaVQATasks, noise: float) -> float:
        drawn = noisy_neighbours(weights, known, part.embeds, noise, torch.Generator().manual_seed(cfg.seed))
        return evaluate(network, part, lambda _, rows: drawn[rows]).macro

    counts = {f"{k} neighbours": k for k in cfg.neighbours if k <= len(rows)}
    return {
        "neighbours_average": (near, counts),
        "nearest_question": (noisy, {"no noise": 0.0}),
        "noisy_neighbour": (noisy, {f"noise {noise}": noise for noise in cfg.noises}),
    }


def score_all(cfg: Config, tasks: Splits) -> dict[str, dict[str, Any]]:
    """The rows of all methods."""
    rows: dict[str, dict[str, Any]] = {}

    def add(name: str, score: Score, settings: Mapping[str, Any], curve: bool = False) -> None:
        def of(split: str, label: str) -> float:
            return score(tasks[split], settings[label])

        row = score_chosen(of, tasks, settings, what=name)
        rows[name] = row | ({"curve": {label: of(test, label) for label in row["tried"]}} if curve else {})
        print(f"{name}: {row[test]:.3f} ({row['chosen']})", flush=True)

    none, most, test = {"zero-shot": 0.0}, max(cfg.shares), scored_split(tasks)
    descent = {f"{cfg.few_shot_steps} steps of {lr}": lr for lr in cfg.few_shot_lrs}
    walks = {f"{cfg.guidance_steps} steps of {lr}": lr for lr in cfg.guidance_lrs}
    samples = {f"scale {s}, temperature {t}": (s, t) for t in cfg.temperatures for s in cfg.scales}
    theirs = {f"scale {s}, temperature 1.0": (s, 1.0) for s in cfg.scales}  # all that the paper knows
    for name in UNCONDITIONAL:
        add(name, tuned(cfg, name, 0), none)
        add(f"few_shot_{name}", tuned(cfg, name, cfg.few_shot_steps), descent)
    for share in cfg.shares:
        for name, (score, tried) in retrieved(cfg, share).items():
            add(f"{name}_{share}", score, tried)
        for name, tried in {"hyperldm": samples, "hyperldm_paper": theirs, "hyperldm_hnet": samples}.items():
            add(f"{name}_{share}", sampled(cfg, f"{name}_{share}", tasks), tried, curve=name == "hyperldm")
        for name in CONDITIONAL:
            add(f"{name}_{share}", tuned(cfg, f"{name}_{share}", 0), none)
        for name, decoder in {"hyperclip": "hvae", "hyperclip_hnet": cfg.latents_from}.items():
            add(f"{name}_{share}", guided(cfg, f"{name}_{share}", decoder), walks)
    mean = mean_weights(training.AdaptedTasks.load(Path(cfg.runs) / "adapted").weights)
    network, _ = training.load_run(Path(cfg.runs) / "hvae")
    add(
        "mean_weights",
        lambda part, _: evaluate(network, part, lambda batch, _: mean.expand(len(batch.embeds), -1)).macro,
        none,
    )
    for name in CONDITIONAL:
        add(f"few_shot_{name}", tuned(cfg, f"{name}_{most}", cfg.few_shot_steps), descent)
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
