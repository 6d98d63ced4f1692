"""Score every method of one seed that `reproduce.py` has trained, on held-out tasks; choose settings on validation tasks.

    python recipes/score_methods.py dataset=... runs=results/scenes/seed0 output=results/scenes/seed0/scores.json

Rows are accuracies (mean over tasks of query accuracy) by split, zero-shot and few-shot; "chosen" says what the validation tasks chose.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from weightgen.components import load_part
from weightgen.config import parse
from weightgen.data.features import find_features
from weightgen.data.meta_vqa import load_meta_vqa
from weightgen.data.task_features import MetaVQATasks
from weightgen.data.templates import make_template
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation import chance_scores, clip_scores, evaluate
from weightgen.files import write_json
from weightgen.guidance import HyperCLIPGuidance
from weightgen.hypernets import HNet, SharedWeights
from weightgen.networks import CLIPAdapter
from weightgen.objectives.adaptation import adapt
from weightgen.pipeline import WeightPipeline
from weightgen.priors import GaussianPrior
from weightgen.tasks import TaskBatch

Weights = Callable[[MetaVQATasks], Callable[[TaskBatch, Tensor], Tensor]]
"""A split → a function of (batch, numbers of its tasks) that gives weights."""


@dataclass
class Config:
    dataset: str = MISSING
    runs: str = MISSING  # folder with the outputs of one seed
    output: str = MISSING  # scores.json
    features: str | None = None
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions
    scales: list[float] = field(default_factory=lambda: [1.0, 1.5, 2.0, 3.0])
    guidance_steps: int = 10
    guidance_lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    few_shot_steps: int = 50
    few_shot_lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    num_inference_steps: int = 20
    seed: int = 0


class Scorer:
    """The splits, the base network, and what has been scored so far."""

    def __init__(self, cfg: Config) -> None:
        splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
        names = [name for name in ("validation", "test", "novel_composition") if name in splits]
        self.cfg, self.runs = cfg, Path(cfg.runs)
        self.tasks = {name: MetaVQATasks(splits[name], store) for name in names}
        self.network = load_part(CLIPAdapter, self.runs / "multitask/network")
        self.space = load_part(SharedWeights, self.runs / "multitask/hypernet").space
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, name: str, choices: dict[str, Weights]) -> None:
        """Score a method with the setting that is best on the validation tasks."""

        def score(split: str, weights: Weights) -> float:
            tasks = self.tasks[split]
            return evaluate(self.space, self.network, tasks, weights(tasks)).macro

        tried = {setting: score("validation", weights) for setting, weights in choices.items()}
        best = max(tried, key=lambda setting: tried[setting])
        row = {split: score(split, choices[best]) for split in self.tasks if split != "validation"}
        self.rows[name] = {**row, "validation": tried[best], "chosen": best, "tried": tried}
        print(f"{name}: {row['test']:.3f} ({best})", flush=True)

    def zero_shot(self, folder: str, kind: type) -> Weights:
        """Weights that a hypernetwork writes for the question."""
        hypernet = load_part(kind, self.runs / folder / "hypernet").requires_grad_(False).eval()
        return lambda _: lambda batch, _: hypernet(batch.embeds)

    def few_shot(self, folder: str) -> dict[str, Weights]:
        """Weights after gradient steps on the support set, by step size."""
        shared = load_part(SharedWeights, self.runs / folder / "hypernet").requires_grad_(False)
        steps = self.cfg.few_shot_steps

        def weights(lr: float, _: MetaVQATasks) -> Callable[[TaskBatch, Tensor], Tensor]:
            tune = partial(adapt, self.space, self.network, steps=steps, lr=lr)
            return lambda batch, _: tune(shared(batch.embeds), batch.support, batch.context)

        return {f"{steps} steps of {lr}": partial(weights, lr) for lr in self.cfg.few_shot_lrs}

    def sampled(self, folder: str) -> dict[str, Weights]:
        """Weights that HyperLDM samples, by guidance scale."""
        pipe = WeightPipeline.from_pretrained(self.runs / folder)

        def weights(scale: float, tasks: MetaVQATasks) -> Callable[[TaskBatch, Tensor], Tensor]:
            rows = [torch.Generator().manual_seed(self.cfg.seed * 1_000_003 + i) for i in range(len(tasks))]
            steps = self.cfg.num_inference_steps
            drawn, _ = pipe.sample(
                tasks.batch().embeds, guidance_scale=scale, num_inference_steps=steps, generator=rows
            )
            return lambda _, index: drawn[index, 0]

        return {f"scale {scale}": partial(weights, scale) for scale in self.cfg.scales}

    def guided(self, folder: str, hypernet: Any) -> dict[str, Weights]:
        """Weights that HyperCLIP guidance walks to from the centre of the latents, by step size."""
        encoder = load_part(HyperCLIP, self.runs / folder / "encoder").requires_grad_(False).eval()
        prior = GaussianPrior(torch.zeros(hypernet.latent_dim), std=0.0)

        def weights(lr: float, tasks: MetaVQATasks) -> Callable[[TaskBatch, Tensor], Tensor]:
            guidance = HyperCLIPGuidance(prior, hypernet, encoder, self.cfg.guidance_steps, lr)
            reached = hypernet(guidance.sample(tasks.batch().embeds)).detach()
            return lambda _, index: reached[index]

        steps = self.cfg.guidance_steps
        return {f"{steps} steps of {lr}": partial(weights, lr) for lr in self.cfg.guidance_lrs}


def main(cfg: Config) -> None:
    if not Path(cfg.runs).is_dir():
        raise InputError(f"no folder {cfg.runs}: it is what recipes/reproduce.py fills")
    scorer = Scorer(cfg)
    pipe = WeightPipeline.from_pretrained(scorer.runs / f"hyperldm_{cfg.shares[-1]}")
    for name, tasks in scorer.tasks.items():
        asked = tasks.restated(make_template, pipe.clip.encode_texts)
        fixed = {
            "chance": chance_scores(tasks),
            "clip": clip_scores(tasks),
            "clip_with_question": clip_scores(asked),
        }
        for row, score in fixed.items():
            scorer.rows.setdefault(row, {})[name] = score.macro
    scorer.add("uncond_multitask", {"": scorer.zero_shot("multitask", SharedWeights)})
    for share, kind in product(cfg.shares, ("hyperldm", "hyperldm_paper")):
        scorer.add(f"{kind}_{share}", scorer.sampled(f"{kind}_{share}"))
    for share in cfg.shares:
        scorer.add(f"cond_multitask_{share}", {"": scorer.zero_shot(f"cond_multitask_{share}", HNet)})
        scorer.add(f"hyperclip_{share}", scorer.guided(f"hyperclip_{share}", pipe.hypernet))
    for name in ("multitask", "maml", "fomaml"):
        scorer.add(f"few_shot_{name}", scorer.few_shot(name))
    write_json(Path(cfg.output), scorer.rows)


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
