r"""Score HyperLDM and what it is compared with on every split but the training tasks, and write the report.

    python recipes/evaluate.py dataset=runs/demo/photos/dataset pipeline=runs/demo/pipeline multitask=runs/demo/multitask \
        cond_multitask=runs/demo/cond_multitask start=runs/demo/maml adapted=runs/demo/adapted output=runs/demo/report.json

Accuracies are means over tasks of per-task query accuracy (Nava, Kobayashi et al., 2023: section 5.3), those of sampled weights also over
sampling seeds. Settings, such as step sizes, are chosen on validation tasks. All few-shot methods see the same examples.
Writes report.json, report.md, accuracies.png and guidance.png. 1 minute on 2 CPU cores.
"""

from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from weightgen import WeightPipeline, training
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation import baselines, evaluate, zero_shot
from weightgen.reports import few_shot
from weightgen.reports.choice import best_setting
from weightgen.reports.evaluation import (
    encoder_rows,
    familiarity_rows,
    sampled_rows,
    write_evaluation,
)
from weightgen.reports.splits import load_pipeline, load_splits
from weightgen.reports.tables import versions


@dataclass
class Config:
    dataset: str = training.MISSING
    pipeline: str = training.MISSING  # output of train_hyperldm
    multitask: str = training.MISSING  # outputs of train_hypernet
    cond_multitask: str = training.MISSING
    start: str = training.MISSING  # output of train_hypernet, such as MAML's, where fine-tuning starts
    adapted: str = training.MISSING  # output of adapt_tasks: weights of the known questions
    output: str = training.MISSING  # report.json; report.md and two figures go beside it
    support: str | None = None  # output of train_support
    features: str | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    scales: list[float] = field(default_factory=lambda: [0.0, 1.0, 1.5])
    curve: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
    support_scales: list[float] = field(default_factory=lambda: [1.0, 1.5])
    num_inference_steps: int = 20
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of sampling; the first also draws examples
    shots: list[int | None] = field(default_factory=lambda: [1, 2, 5, None])  # of each class; null: all
    steps: int = 50  # of fine-tuning
    lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    logistic_c: list[float] = field(default_factory=lambda: [1.0, 10.0, 100.0])
    neighbours: list[int] = field(default_factory=lambda: [1, 2, 5, 10, 20])  # known questions to average


def few_shot_methods(cfg: Config, pipe: WeightPipeline) -> dict[str, few_shot.FewShotMethod]:
    """The methods that learn from the examples of a task."""
    seed, how = cfg.seeds[0], {"num_inference_steps": cfg.num_inference_steps}
    methods = {
        "maml": few_shot.fine_tuning(*training.load_run(cfg.start, "cpu"), cfg.steps, cfg.lrs, seed),
        "logistic_regression": few_shot.logistic_regression(cfg.logistic_c, seed),
        "nearest_centroid": few_shot.nearest_centroid(seed),
        "question_mixed_with_examples": few_shot.mixing(pipe, seed, **how),
    }
    if cfg.support:
        methods["support_hnet"] = few_shot.one_pass(*training.load_run(cfg.support, "cpu"), seed)
    if pipe.support is not None:
        scales = [(1.0, scale) for scale in cfg.support_scales]
        methods["question_and_examples"] = few_shot.sampling(pipe, scales, seed=seed, **how)
    return methods


def main(cfg: Config) -> None:
    if not cfg.seeds or not cfg.scales or not cfg.curve:
        raise InputError("expected seeds, scales and curve to have at least one number each")
    tasks = load_splits(cfg.dataset, cfg.features, ("train", "validation"), train=True, questions=True)
    pipe, known = load_pipeline(cfg.pipeline, tasks, cfg.trust_remote_code), tasks.pop("train")
    weights = training.AdaptedTasks.load(cfg.adapted, "cpu").mean_weights()
    multitask, conditional = (training.load_run(run, "cpu")[1] for run in (cfg.multitask, cfg.cond_multitask))
    how = {"num_inference_steps": cfg.num_inference_steps}

    def near(part: MetaVQATasks, k: int) -> float:
        average = baselines.neighbours_average
        return evaluate(pipe.network, part, lambda b, _: average(weights, known.embeds, b.embeds, k)).macro

    def learned(hypernet: Any, part: MetaVQATasks) -> float:
        return evaluate(pipe.network, part, lambda batch, _: hypernet(batch.embeds)).macro

    neighbours = [k for k in cfg.neighbours if k <= len(known)]
    k, _ = best_setting(lambda k: near(tasks["validation"], k), neighbours, "neighbours")
    fitted, chosen = few_shot.few_shot_rows(few_shot_methods(cfg, pipe), tasks, cfg.shots)
    splits: dict[str, Any] = {}
    deviations: dict[str, Any] = {}
    for split, part in tqdm(tasks.items(), desc="zero-shot"):
        sampled, deviations[split] = sampled_rows(pipe, part, cfg.scales, cfg.seeds, **how)
        splits[split] = {
            **encoder_rows(pipe.encoder, part),
            "uncond_multitask": learned(multitask, part),
            "cond_multitask": learned(conditional, part),
            **sampled,
            "neighbours_average": near(part, k),
            "few_shot": fitted[split],
        }
    options = {"seed": cfg.seeds[0], **how}
    curve = {s: zero_shot(pipe, tasks["validation"], guidance_scale=s, **options).macro for s in cfg.curve}
    facts = {
        "chosen": {"neighbours": k, **chosen},
        "tasks": {split: len(part) for split, part in tasks.items()},
        "familiarity": familiarity_rows(pipe, tasks),
    }
    facts |= {"seconds": {}, "seeds": cfg.seeds, "settings": vars(cfg), "versions": versions()}
    write_evaluation(
        cfg.output, {"splits": splits, "sd": deviations, "validation_guidance_curve": curve, **facts}
    )


if __name__ == "__main__":
    training.run(main, Config, __doc__)
