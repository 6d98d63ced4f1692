"""Score every method of one seed that `reproduce.py` has trained, on held-out tasks; choose settings on validation tasks.

    python recipes/score_methods.py dataset=... runs=runs/scenes/seed0 output=runs/scenes/seed0/scores.json

Rows are accuracies (mean over tasks of query accuracy) by split, zero-shot and few-shot; "chosen" says what the validation tasks chose,
"curve" has HyperLDM's accuracy on test tasks at every guidance scale. Task inference is HyperCLIP's, as `train_hyperclip.py` measured it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from weightgen.adaptation import adapt, initial_points
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.data.meta_vqa.templates import make_template
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import chance_scores, clip_scores, evaluate
from weightgen.guidance import HyperCLIPGuidance
from weightgen.hypernets import HVAE
from weightgen.hypernets.saving import load_hypernet
from weightgen.networks import CLIPAdapter
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.priors import GaussianPrior
from weightgen.storage.files import read_json, write_json
from weightgen.storage.hub import load_part
from weightgen.tasks import TaskBatch
from weightgen.training.config import parse

Drawn = Callable[[TaskBatch, Tensor], Tensor]
"""(A batch, the numbers of its tasks in the split) → weights."""
Weights = Callable[[MetaVQATasks], Drawn]
LATENTS = ("hnet_maml", "cond_hnet_maml")  # methods that adapt the latent of an HNet, not weights
CONDITIONAL = ("cond_multitask", "film", "cond_hnet_maml")
DIFFUSION = ("hyperldm", "hyperldm_paper", "hyperldm_hnet")


@dataclass
class Config:
    dataset: str = MISSING
    runs: str = MISSING  # folder with the outputs of one seed
    output: str = MISSING  # scores.json
    features: str | None = None
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions
    scales: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    guidance_steps: int = 10
    guidance_lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    few_shot_steps: int = 50
    few_shot_lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    num_inference_steps: int = 20
    temperatures: list[float] = field(default_factory=lambda: [1.0, 0.5])  # of the samples of HyperLDM
    seed: int = 0


def finite(weights: Tensor) -> Tensor:
    """Return the weights.

    Raises:
        InputError: gradient descent has carried some of them off to infinity.
    """
    if not weights.isfinite().all():
        raise InputError("adaptation diverged: its weights are not finite; give smaller step sizes")
    return weights


class Scorer:
    """The splits, the base network, and what has been scored so far."""

    def __init__(self, cfg: Config) -> None:
        splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
        names = [name for name in ("validation", "test", "novel_composition") if name in splits]
        self.cfg, self.runs = cfg, Path(cfg.runs)
        self.tasks = {name: MetaVQATasks(splits[name], store) for name in names}
        for tasks in self.tasks.values():
            tasks.check_questions()
        self.network = load_part(CLIPAdapter, self.runs / "multitask/network")
        self.space = load_hypernet(self.runs / "multitask", "training.json").space
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, name: str, choices: dict[str, Weights], curve: bool = False) -> None:
        """Score a method with the setting that is best on the validation tasks; with `curve`, with every setting.

        Raises:
            InputError: every setting diverges, or the best one does on other tasks.
        """

        def score(split: str, weights: Weights) -> float:
            tasks = self.tasks[split]
            return evaluate(self.space, self.network, tasks, weights(tasks)).macro

        tried: dict[str, float] = {}
        for setting, weights in choices.items():
            try:
                tried[setting] = score("validation", weights)
            except InputError as error:
                print(f"{name}, {setting}: {error}", flush=True)
        if not tried:
            raise InputError(f"{name}: no setting of {list(choices)} gave finite weights, see above")
        best = max(tried, key=lambda setting: tried[setting])
        row = {split: score(split, choices[best]) for split in self.tasks if split != "validation"}
        self.rows[name] = {**row, "validation": tried[best], "chosen": best, "tried": tried}
        if curve:
            self.rows[name]["curve"] = {setting: score("test", choices[setting]) for setting in tried}
        print(f"{name}: {row['test']:.3f} ({best or 'zero-shot'})", flush=True)

    def adapted(self, folder: str, steps: int, lr: float) -> Weights:
        """Weights of a hypernetwork after gradient steps on the support set, from where it puts a task; none for zero-shot."""
        hypernet = load_hypernet(self.runs / folder, "training.json").requires_grad_(False)
        point = "latents" if folder.startswith(LATENTS) else "weights"

        def drawn(batch: TaskBatch, _: Tensor) -> Tensor:
            start, decode = initial_points(hypernet, batch.embeds, point)
            tune = partial(adapt, self.space, self.network, steps=steps, lr=lr, decode=decode)
            reached = tune(start, batch.support, batch.context)
            return finite(reached if decode is None else decode(reached))

        return lambda _: drawn

    def zero_shot(self, folder: str) -> dict[str, Weights]:
        return {"": self.adapted(folder, 0, 0.0)}

    def few_shot(self, folder: str) -> dict[str, Weights]:
        """By step size."""
        steps = self.cfg.few_shot_steps
        return {f"{steps} steps of {lr}": self.adapted(folder, steps, lr) for lr in self.cfg.few_shot_lrs}

    def sampled(self, folder: str) -> dict[str, Weights]:
        """Weights that HyperLDM samples, by guidance scale and temperature; the paper knows no other temperature than 1."""
        temperatures = [1.0] if folder.startswith("hyperldm_paper") else self.cfg.temperatures
        pipe = WeightPipeline.from_pretrained(self.runs / folder)

        def weights(scale: float, temperature: float, tasks: MetaVQATasks) -> Drawn:
            rows = [torch.Generator().manual_seed(self.cfg.seed * 1_000_003 + i) for i in range(len(tasks))]
            drawn, _ = pipe.sample(
                tasks.batch().embeds, guidance_scale=scale, num_inference_steps=self.cfg.num_inference_steps,
                generator=rows, temperature=temperature,
            )  # fmt: skip
            return lambda _, index: drawn[index, 0]

        return {
            f"scale {scale}, temperature {heat}": partial(weights, scale, heat)
            for heat in temperatures
            for scale in self.cfg.scales
        }

    def guided(self, folder: str, hypernet: Any, start: Tensor) -> dict[str, Weights]:
        """Weights that HyperCLIP guidance walks to from the latent `start` (Z,), by step size."""
        encoder = load_part(HyperCLIP, self.runs / folder / "encoder").requires_grad_(False).eval()
        prior, steps = GaussianPrior(start, std=0.0), self.cfg.guidance_steps

        def weights(lr: float, tasks: MetaVQATasks) -> Drawn:
            guidance = HyperCLIPGuidance(prior, hypernet, encoder, steps, lr)
            reached = finite(hypernet(guidance.sample(tasks.batch().embeds)).detach())
            return lambda _, index: reached[index]

        return {f"{steps} steps of {lr}": partial(weights, lr) for lr in self.cfg.guidance_lrs}


def score_floors(scorer: Scorer) -> None:
    """Chance, CLIP as it is, and CLIP where the answers' statements hold the question."""
    clip = WeightPipeline.from_pretrained(scorer.runs / f"hyperldm_{scorer.cfg.shares[-1]}").clip
    for name, tasks in scorer.tasks.items():
        asked = tasks.with_templates(make_template, clip.encode_texts)
        fixed = {
            "chance": chance_scores(tasks),
            "clip": clip_scores(tasks),
            "clip_with_question": clip_scores(asked),
        }
        for row, score in fixed.items():
            scorer.rows.setdefault(row, {})[name] = score.macro


def score_all(scorer: Scorer) -> None:
    score_floors(scorer)
    hvae = load_part(HVAE, scorer.runs / "hvae/hypernet").requires_grad_(False)
    hnet = load_hypernet(scorer.runs / "hnet_maml", "training.json").requires_grad_(False)
    for name in ("multitask", "maml", "fomaml", "hnet_maml"):
        scorer.add(name, scorer.zero_shot(name))
        scorer.add(f"few_shot_{name}", scorer.few_shot(name))
    for share in scorer.cfg.shares:
        for name in DIFFUSION:
            scorer.add(f"{name}_{share}", scorer.sampled(f"{name}_{share}"), curve=name == "hyperldm")
        for name in CONDITIONAL:
            scorer.add(f"{name}_{share}", scorer.zero_shot(f"{name}_{share}"))
        for name, hypernet, start in (
            ("hyperclip", hvae, torch.zeros(hvae.latent_dim)),
            ("hyperclip_hnet", hnet, hnet.start.detach()),
        ):
            scorer.add(f"{name}_{share}", scorer.guided(f"{name}_{share}", hypernet, start))
    for name in CONDITIONAL:
        scorer.add(f"few_shot_{name}", scorer.few_shot(f"{name}_{max(scorer.cfg.shares)}"))


def main(cfg: Config) -> None:
    if not Path(cfg.runs).is_dir():
        raise InputError(f"no folder {cfg.runs}: it is what recipes/reproduce.py fills")
    scorer = Scorer(cfg)
    score_all(scorer)
    inference = {
        f"{name}_{share}": read_json(scorer.runs / f"{name}_{share}/training.json")["test"]
        for name in ("hyperclip", "hyperclip_hnet")
        for share in cfg.shares
    }
    write_json(Path(cfg.output), {"rows": scorer.rows, "task_inference": inference})


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
