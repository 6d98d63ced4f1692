r"""Score HVAE + HyperLDM and its baselines on test tasks, and write the report.

    python recipes/evaluate.py dataset=runs/demo/scenes/dataset pipeline=runs/demo/pipeline multitask=runs/demo/multitask \
        cond_multitask=runs/demo/cond_multitask adapted=runs/demo/adapted output=runs/demo/report.json

Accuracies are means over tasks of per-task query accuracy (paper, section 5.3); `micro` has the share of all examples. Sampled rows are
means over sampling seeds, with their standard deviation in `std`. The guidance curve is on validation tasks.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor
from tqdm import tqdm

from weightgen.adaptation import adapt
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.data.meta_vqa.templates import make_template
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import Scores, chance_scores, clip_scores, evaluate
from weightgen.hypernets import HNet, SharedWeights
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.reports.figures import draw_bars, draw_guidance, markdown_table
from weightgen.storage.files import read_json, write_json, written_beside
from weightgen.storage.hub import load_part
from weightgen.training.config import parse


@dataclass
class Config:
    dataset: str = MISSING
    pipeline: str = MISSING
    multitask: str = MISSING  # outputs of train_hypernet
    cond_multitask: str = MISSING
    adapted: str = MISSING  # output of adapt_tasks: the few-shot row adapts as it did
    output: str = MISSING  # report.json; report.md and two plots go beside it
    features: str | None = None
    scales: list[float] = field(default_factory=lambda: [0.0, 1.0, 1.5])
    curve: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    num_inference_steps: int = 20
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of the sampling


class Bench:
    """The models to compare, and how each gets weights for the tasks of a split."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.pipe = WeightPipeline.from_pretrained(cfg.pipeline)
        self.shared = load_part(SharedWeights, Path(cfg.multitask) / "hypernet").requires_grad_(False)
        self.conditional = load_part(HNet, Path(cfg.cond_multitask) / "hypernet").requires_grad_(False)
        self.start = load_part(SharedWeights, Path(cfg.adapted) / "hypernet").requires_grad_(False)
        self.few_shot = read_json(Path(cfg.adapted) / "adapted.json")

    def score(self, tasks: MetaVQATasks, weights_of: Callable[..., Tensor]) -> Scores:
        return evaluate(self.pipe.space, self.pipe.network, tasks, weights_of)

    def adapted(self, tasks: MetaVQATasks) -> Scores:
        steps, lr = self.few_shot["steps"], self.few_shot["lr"]

        def tuned(batch: Any, _: Tensor) -> Tensor:
            start = self.start(batch.embeds)
            return adapt(
                self.pipe.space, self.pipe.network, start, batch.support, batch.context, steps=steps, lr=lr
            )

        return self.score(tasks, tuned)

    def sampled(self, tasks: MetaVQATasks, scale: float, seed: int, shuffled: bool = False) -> Scores:
        embeds = tasks.batch().embeds
        if shuffled:  # every task gets the question of another one: rotate a random order by one
            order = torch.randperm(len(embeds), generator=torch.Generator().manual_seed(seed))
            embeds = embeds.index_copy(0, order, embeds[order.roll(1)])
        rows = [torch.Generator().manual_seed(seed * 1_000_003 + row) for row in range(len(embeds))]
        weights, _ = self.pipe.sample(
            embeds, guidance_scale=scale, num_inference_steps=self.cfg.num_inference_steps, generator=rows
        )
        return self.score(tasks, lambda _, index: weights[index, 0])

    def rows(self, tasks: MetaVQATasks) -> dict[str, Any]:
        """All zero-shot rows of a split, with `micro` and `std`."""
        seeds, scales = self.cfg.seeds, self.cfg.scales
        fixed = {
            "chance": chance_scores(tasks),
            "clip": clip_scores(tasks),
            "clip_with_question": clip_scores(
                tasks.with_templates(make_template, self.pipe.clip.encode_texts)
            ),
            "uncond_multitask": self.score(tasks, lambda b, _: self.shared(b.embeds)),
            "cond_multitask": self.score(tasks, lambda b, _: self.conditional(b.embeds)),
        }
        drawn = {
            str(s): [self.sampled(tasks, s, seed) for seed in seeds]
            for s in tqdm(scales, desc="guidance scales")
        }
        shuffled = [self.sampled(tasks, 1.5, seed, shuffled=True) for seed in seeds]

        def table(of: Callable[[list[Scores]], float]) -> dict[str, Any]:
            ldm = {name: of(scores) for name, scores in drawn.items()}
            return {"hvae_hyperldm": ldm, "hvae_hyperldm_shuffled_prompts": of(shuffled)}

        return {
            **{name: score.macro for name, score in fixed.items()},
            **table(lambda scores: fmean(s.macro for s in scores)),
            "micro": {
                **{name: score.micro for name, score in fixed.items()},
                **table(lambda scores: fmean(s.micro for s in scores)),
            },
            "std": table(lambda scores: pstdev(s.macro for s in scores)),
        }


def main(cfg: Config) -> None:
    bench = Bench(cfg)
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
    tasks = {name: MetaVQATasks(split, store) for name, split in splits.items() if name != "train"}
    if "novel_composition" not in tasks:
        raise InputError(f"{cfg.dataset} has no split novel_composition; make it with data/scenes/prepare.py")
    for part in tasks.values():
        part.check_questions()
    novel = tasks["novel_composition"]
    zero_shot, novel_rows = bench.rows(tasks["test"]), bench.rows(novel)
    few_shot, few_shot_novel = bench.adapted(tasks["test"]), bench.adapted(novel)
    floor, ceiling = zero_shot["uncond_multitask"], few_shot.macro
    curve = {
        str(s): bench.sampled(tasks["validation"], s, 0).macro for s in tqdm(cfg.curve, desc="guidance curve")
    }
    report = {
        "dataset": {
            "images": len(store.names("images")), "train_tasks": splits["train"].num_rows,
            "validation_tasks": len(tasks["validation"]), "test_tasks": len(tasks["test"]), "novel_composition_tasks": len(novel),
        },
        "zero_shot": zero_shot, "novel_composition": novel_rows,
        "few_shot": {
            "mnet_maml": few_shot.macro, "novel_composition": few_shot_novel.macro,
            "micro": {"mnet_maml": few_shot.micro, "novel_composition": few_shot_novel.micro},
        },
        "share_of_the_way_to_few_shot": (zero_shot["hvae_hyperldm"]["1.5"] - floor) / (ceiling - floor) if ceiling != floor else None,
        "validation_guidance_curve": curve, "seconds": {}, "seeds": cfg.seeds, "steps": cfg.num_inference_steps,
        "versions": {
            "python": platform.python_version(), **{n: version(n) for n in ("weightgen", "torch", "diffusers", "open_clip_torch")}
        },
    }  # fmt: skip
    output = Path(cfg.output)
    drawings = {
        "accuracies.png": lambda path: draw_bars(report, path),
        "guidance.png": lambda path: draw_guidance(curve, path),
        output.with_suffix(".md").name: lambda path: path.write_text(
            markdown_table(report), encoding="utf-8"
        ),
    }
    for name, draw in drawings.items():
        with written_beside(output.with_name(name), overwrite=True) as partial:
            draw(partial)
    write_json(output, report)
    print(markdown_table(report))


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
