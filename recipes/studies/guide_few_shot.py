"""Few-shot guidance of HyperLDM: labelled examples steer the sampling, alone and together with the question; no gradient step on weights.

    python recipes/guide_few_shot.py dataset=runs/demo/scenes/dataset "pipelines=[runs/scenes/seed0/hyperldm_100]" output=results/scenes

Writes few_shot_guidance.{json,md}: accuracy on held-out tasks by examples per class, with the text off (scale 0) and on (scale 1), ±
over the pipelines, which are seeds of one training. The strength of the guidance is chosen on validation tasks for each column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor
from tqdm import tqdm

from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import chance_scores, clip_scores, evaluate
from weightgen.guidance import ClassifierFreeGuidance, FewShotGuidance
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.reports.tables import HELD_OUT, percent, spread, table, versions
from weightgen.shots import keep_shots, shot_order
from weightgen.storage.files import write_json, written_beside
from weightgen.tasks import TaskBatch
from weightgen.training.config import parse


@dataclass
class Config:
    dataset: str = MISSING
    pipelines: list[str] = MISSING  # outputs of train_hyperldm
    output: str = MISSING  # folder of the table
    features: str | None = None
    shots: list[int] = field(
        default_factory=lambda: [0, 1, 2, 5, 50]
    )  # examples per class, as far as there are so many
    text_scales: list[float] = field(default_factory=lambda: [0.0, 1.0])
    strengths: list[float] = field(default_factory=lambda: [1.0, 3.0, 10.0, 30.0])
    num_inference_steps: int = 20
    seed: int = 0


def accuracy(
    cfg: Config, pipe: WeightPipeline, tasks: MetaVQATasks, shots: int, text: float, strength: float
) -> float:
    """Mean over tasks of the query accuracy of one sample each."""

    def weights(batch: TaskBatch, rows: Tensor) -> Tensor:
        support = keep_shots(batch.support, shots, shot_order(batch, rows, cfg.seed))

        def guide(denoiser: Any) -> Any:
            told = ClassifierFreeGuidance(denoiser, text)
            if not shots:
                return told
            parts = (pipe.prior, pipe.hypernet, pipe.network, support, batch.context)
            return FewShotGuidance.of_support(told, *parts, scale=strength)

        noise = [torch.Generator().manual_seed(cfg.seed * 1_000_003 + row) for row in rows.tolist()]
        latents = pipe.prior.sample(
            batch.embeds, num_inference_steps=cfg.num_inference_steps, generator=noise, guide=guide
        )
        found: Tensor = pipe.hypernet(latents)
        return found

    return evaluate(pipe.space, pipe.network, tasks, weights).macro


def column(
    cfg: Config, pipe: WeightPipeline, tasks: Mapping[str, MetaVQATasks], shots: int, text: float
) -> dict[str, Any]:
    """Accuracy by split, at the strength that is best on validation tasks."""
    strengths = cfg.strengths if shots else [0.0]
    tried = {s: accuracy(cfg, pipe, tasks["validation"], shots, text, s) for s in strengths}
    best = max(tried, key=lambda strength: tried[strength])
    scores = {
        split: accuracy(cfg, pipe, tasks[split], shots, text, best) for split in tasks if split in HELD_OUT
    }
    return {"strength": best, "tried": tried, **scores}


def text_of(rows: Mapping[str, Mapping[str, Any]], shots: list[int], held_out: Sequence[str]) -> str:
    """Markdown with a table for each split."""
    parts = []
    for split in held_out:
        cells = {label: [percent(row[str(count)][split]) for count in shots] for label, row in rows.items()}
        parts.append(
            f"Accuracy in %, {HELD_OUT[split]}, by examples per class:\n\n{table([str(n) for n in shots], cells)}"
        )
    return "\n".join(parts)


def main(cfg: Config) -> None:
    if not cfg.pipelines or not cfg.strengths or min(cfg.shots, default=-1) < 0:
        raise InputError("expected pipelines, strengths, and shots from 0 up")
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
    held_out = [name for name in HELD_OUT if name in splits]
    tasks = {name: MetaVQATasks(splits[name], store) for name in ("validation", *held_out)}
    pipes = [WeightPipeline.from_pretrained(folder) for folder in cfg.pipelines]
    rows: dict[str, dict[str, Any]] = {f"text scale {text}": {} for text in cfg.text_scales}
    settings = [(text, shots) for text in cfg.text_scales for shots in cfg.shots]
    for text, shots in tqdm(settings, desc="guiding"):
        columns = [column(cfg, pipe, tasks, shots, text) for pipe in pipes]
        chosen = {"strengths": [c["strength"] for c in columns], "tried": [c["tried"] for c in columns]}
        scores = {split: spread([c[split] for c in columns]) for split in held_out}
        rows[f"text scale {text}"][str(shots)] = {**scores, **chosen}
    fixed = {"chance": chance_scores, "CLIP": clip_scores}
    known = {name: {split: score(tasks[split]).macro for split in held_out} for name, score in fixed.items()}
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    write_json(
        output / "few_shot_guidance.json",
        {"settings": vars(cfg), "versions": versions(), **known, "rows": rows},
    )
    with written_beside(output / "few_shot_guidance.md", overwrite=True) as partial:
        partial.write_text(text_of(rows, cfg.shots, held_out), encoding="utf-8")
    print(text_of(rows, cfg.shots, held_out))


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
