r"""Few-shot guidance of HyperLDM: labelled examples steer the sampling, alone and with the question; no gradient step on weights.

    python recipes/studies/guide_few_shot.py dataset=runs/demo/photos/dataset "pipelines=[runs/scenes/seed0/hyperldm_100]" \
        output=results/scenes/few_shot_guidance

Writes `output`.json and `output`.md: accuracy on held-out tasks by examples per class, with the text off (scale 0) and on (scale 1), ±
over the pipelines, which are seeds of one training. The strength of the guidance is chosen on validation tasks for each number.
After the code of Nava, Kobayashi et al., 2023. 10 minutes for each pipeline on one CPU thread.
"""

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from weightgen import WeightPipeline, training
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation import chance_scores, encoder_scores, evaluate
from weightgen.evaluation.curves import few_shots
from weightgen.guidance import FewShotGuidance
from weightgen.reports import tables
from weightgen.reports.few_shot import few_shot_rows
from weightgen.reports.splits import load_pipeline, load_splits
from weightgen.tasks import TaskBatch


@dataclass
class Config:
    dataset: str = training.MISSING
    pipelines: list[str] = training.MISSING  # outputs of train_hyperldm
    output: str = training.MISSING  # .json and .md are added
    features: str | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    shots: list[int | None] = field(default_factory=lambda: [0, 1, 2, 5, None])  # of each class; null: all
    text_scales: list[float] = field(default_factory=lambda: [0.0, 1.0])
    strengths: list[float] = field(default_factory=lambda: [1.0, 3.0, 10.0, 30.0])
    num_inference_steps: int = 20
    seed: int = 0


def accuracy(
    cfg: Config, pipe: WeightPipeline, text: float, tasks: MetaVQATasks, shots: int | None, strength: float
) -> float:
    """Mean over tasks of the query accuracy of one sample each."""

    def weights(batch: TaskBatch, rows: Tensor) -> Tensor:
        few = few_shots(batch, rows, shots, cfg.seed)

        def guide(denoiser: Any) -> Any:
            parts = (pipe.prior, pipe.hypernet, pipe.network, few.support, few.context)
            return FewShotGuidance.of_support(denoiser, *parts, scale=strength)

        # The streams of `zero_shot`, though the tasks are sampled batch by batch: guidance needs their examples.
        streams = [torch.Generator().manual_seed(cfg.seed * 1_000_003 + row) for row in rows.tolist()]
        found, _ = pipe.sample(
            batch.embeds, guidance_scale=text, num_inference_steps=cfg.num_inference_steps, generator=streams,
            guide=None if shots == 0 else guide,
        )  # fmt: skip
        return found[:, 0]

    return evaluate(pipe.network, tasks, weights).macro


def main(cfg: Config) -> None:
    if not cfg.pipelines or not cfg.strengths:
        raise InputError("expected pipelines and strengths, at least one of each")
    if min((count for count in cfg.shots if count is not None), default=0) < 0:
        raise InputError(f"expected shots from 0 up, or null for all, got {cfg.shots}")
    tasks = load_splits(cfg.dataset, cfg.features, questions=True)
    keys, held_out = (
        [tables.shots_key(count) for count in cfg.shots],
        [name for name in tasks if name != "validation"],
    )
    known = {
        split: {"chance": chance_scores(tasks[split]).macro, "encoder": encoder_scores(tasks[split]).macro} for split in held_out
    }  # fmt: skip
    same = {
        split: {row: dict.fromkeys(keys, value) for row, value in known[split].items()} for split in held_out
    }
    seen: dict[str, dict[str, list[dict[str, float]]]] = {}
    chosen = []
    for folder in tqdm(cfg.pipelines, desc="guiding"):
        pipe = load_pipeline(folder, tasks, cfg.trust_remote_code)
        methods = {
            f"text scale {s}": (cfg.strengths, partial(accuracy, cfg, pipe, s)) for s in cfg.text_scales
        }
        rows, strengths = few_shot_rows(methods, tasks, cfg.shots)
        tables.collect_seed(seen, {split: same[split] | rows[split] for split in held_out})
        chosen.append(strengths)
    found = tables.spread_by_shots(seen)
    title = f"Sampling that examples guide. Accuracy in %, {tables.over_seeds(len(cfg.pipelines))}.\n"
    report = {"settings": asdict(cfg), "versions": tables.versions(), "chosen": chosen, "accuracy": found}
    tables.write_report(cfg.output, report, title + tables.tables_by_shots(found))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
