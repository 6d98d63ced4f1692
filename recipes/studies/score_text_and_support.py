r"""Score pipelines that take questions, examples, or both, on held-out tasks.

    python recipes/score_text_and_support.py dataset=runs/demo/scenes/dataset pipelines=[runs/scenes/seed0/hyperldm_support] \
        output=results/scenes/text_and_support

The pipelines are outputs of train_hyperldm with `support`. Writes `output`.json and `output`.md: accuracy of one network sampled from the
question only, from `shots` examples of each class only, and from both, mean ± standard deviation over the pipelines, which should be of
several training seeds; and of the one pass that the examples go through, without diffusion. The scales are chosen on validation tasks,
for each of these. About 2 minutes for each pipeline on one CPU thread.
"""

from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

import torch
from omegaconf import MISSING
from torch import Tensor
from tqdm import tqdm

from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import chance_scores, clip_scores, evaluate
from weightgen.evaluation.curves import ALL, one_pass_curve
from weightgen.hypernets import SupportHNet
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.reports.tables import (
    HELD_OUT,
    over_seeds,
    spread_by_shots,
    tables_by_shots,
    versions,
    write_report,
)
from weightgen.shots import keep_shots, shot_order
from weightgen.training.config import parse

TEXT, EXAMPLES, BOTH, PASS = "question only", "examples only", "question and examples", "examples, one pass"


@dataclass
class Config:
    dataset: str = MISSING
    pipelines: list[str] = MISSING
    output: str = MISSING  # .json and .md are added
    features: str | None = None
    shots: list[int] = field(default_factory=lambda: [1, 2, 5, 0])  # examples of each class; 0: all
    scales: list[float] = field(default_factory=lambda: [1.0, 1.5])
    support_scales: list[float] = field(default_factory=lambda: [1.0, 1.5, 2.0])
    num_inference_steps: int = 20
    seed: int = 0  # of the choice of examples, and of sampling


class Sampler:
    """One pipeline, and the scales that are best on validation tasks."""

    def __init__(self, cfg: Config, pipe: WeightPipeline, validation: MetaVQATasks) -> None:
        self.cfg, self.pipe = cfg, pipe
        pairs = {
            TEXT: [(scale, 1.0) for scale in cfg.scales],
            EXAMPLES: [(1.0, scale) for scale in cfg.support_scales],
            BOTH: list(product(cfg.scales, cfg.support_scales)),
        }
        self.scales: dict[tuple[str, int], tuple[float, float]] = {}
        for kind, count in product(pairs, cfg.shots):
            if kind == TEXT and count != cfg.shots[0]:  # examples do not matter
                self.scales[kind, count] = self.scales[kind, cfg.shots[0]]
                continue
            tried = {pair: self.score(validation, kind, count, pair) for pair in pairs[kind]}
            self.scales[kind, count] = max(tried, key=lambda pair: tried[pair])

    def score(self, tasks: MetaVQATasks, kind: str, count: int, scales: tuple[float, float]) -> float:
        """Accuracy of one sample of each task."""
        weights, _ = self.pipe.sample(
            None if kind == EXAMPLES else tasks.batch().embeds,
            support_embeds=None if kind == TEXT else self.shown(tasks, count),
            guidance_scale=scales[0], support_guidance_scale=scales[1],
            num_inference_steps=self.cfg.num_inference_steps,
            generator=[torch.Generator().manual_seed(self.cfg.seed * 1_000_003 + row) for row in range(len(tasks))],
        )  # fmt: skip
        return evaluate(self.pipe.space, self.pipe.network, tasks, lambda _, rows: weights[rows, 0]).macro

    @torch.no_grad()
    def shown(self, tasks: MetaVQATasks, count: int) -> Tensor:
        """Embeddings of `count` examples of each class of each task: those that `score_support.py` takes."""
        batch = tasks.batch()
        few = keep_shots(
            batch.support, count or ALL, shot_order(batch, torch.arange(len(tasks)), self.cfg.seed)
        )
        return support_of(self.pipe).encode(few, batch.context["answers"])

    def row(self, tasks: MetaVQATasks, kind: str) -> dict[int, float]:
        """Accuracy by number of examples."""
        if kind == PASS:
            counts = [count or ALL for count in self.cfg.shots]
            curve = one_pass_curve(self.pipe.network, tasks, support_of(self.pipe), counts, self.cfg.seed)
            return {count: curve[count or ALL].macro for count in self.cfg.shots}
        return {count: self.score(tasks, kind, count, self.scales[kind, count]) for count in self.cfg.shots}


def support_of(pipe: WeightPipeline) -> SupportHNet:
    """What embeds the examples of a pipeline.

    Raises:
        InputError: it takes questions only.
    """
    if pipe.support is None:
        raise InputError("a pipeline takes questions only: train one with train_hyperldm and support=...")
    return pipe.support


def main(cfg: Config) -> None:
    if not cfg.pipelines:
        raise InputError("expected at least one pipeline")
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
    validation = MetaVQATasks(splits["validation"], store)
    held_out = {name: MetaVQATasks(splits[name], store) for name in HELD_OUT if name in splits}
    seen: dict[str, dict[str, list[dict[int, float]]]] = {name: {} for name in held_out}
    chosen = []
    for folder in tqdm(cfg.pipelines, desc="scoring"):
        sampler = Sampler(cfg, WeightPipeline.from_pretrained(Path(folder)), validation)
        chosen.append([{"kind": kind, "shots": count, "scales": scales}
                       for (kind, count), scales in sampler.scales.items()])  # fmt: skip
        for name, tasks in held_out.items():
            rows = {
                "chance": dict.fromkeys(cfg.shots, chance_scores(tasks).macro),
                "CLIP": dict.fromkeys(cfg.shots, clip_scores(tasks).macro),
                **{kind: sampler.row(tasks, kind) for kind in (TEXT, EXAMPLES, BOTH, PASS)},
            }
            for row, values in rows.items():
                seen[name].setdefault(row, []).append(values)
    accuracy = spread_by_shots(seen, cfg.shots)
    report = {"settings": asdict(cfg), "versions": versions(), "chosen": chosen, "accuracy": accuracy}
    title = f"Weights from a question, from examples, and from both. Accuracy in %, {over_seeds(len(cfg.pipelines))}.\n"
    write_report(cfg.output, report, title + tables_by_shots(accuracy, cfg.shots))


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
