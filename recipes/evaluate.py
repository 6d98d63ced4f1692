r"""Score HyperLDM and what it is compared with on every split but the training tasks, and write the report.

    python recipes/evaluate.py dataset=runs/demo/scenes/dataset pipeline=runs/demo/pipeline multitask=runs/demo/multitask \
        cond_multitask=runs/demo/cond_multitask start=runs/demo/maml adapted=runs/demo/adapted output=runs/demo/report.json

Accuracies are means over tasks of per-task query accuracy (Nava, Kobayashi et al., 2023: section 5.3), those of sampled weights also over
sampling seeds. Settings, such as step sizes, are chosen on validation tasks. All few-shot methods see the same examples.
Writes report.json, report.md, accuracies.png and guidance.png. 1 minute on 2 CPU cores.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Any

from omegaconf import MISSING
from tqdm import tqdm

from weightgen import WeightPipeline, training
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.data.meta_vqa.templates import make_template
from weightgen.errors import InputError
from weightgen.evaluation import baselines, chance_scores, embed_shots, encoder_scores, evaluate, zero_shot
from weightgen.reports.choice import best_setting, score_chosen
from weightgen.reports.evaluation import write_evaluation
from weightgen.reports.splits import load_splits
from weightgen.reports.tables import shots_key, versions


@dataclass
class Config:
    dataset: str = MISSING
    pipeline: str = MISSING  # output of train_hyperldm
    multitask: str = MISSING  # outputs of train_hypernet
    cond_multitask: str = MISSING
    start: str = MISSING  # output of train_hypernet, such as MAML's, where fine-tuning starts
    adapted: str = MISSING  # output of adapt_tasks: weights of the known questions
    output: str = MISSING  # report.json; report.md and two figures go beside it
    support: str | None = None  # output of train_support
    features: str | None = None
    scales: list[float] = field(default_factory=lambda: [0.0, 1.0, 1.5])
    curve: list[float] = field(
        default_factory=lambda: [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0]
    )  # on validation tasks
    support_scales: list[float] = field(
        default_factory=lambda: [1.0, 1.5]
    )  # where the pipeline takes examples
    num_inference_steps: int = 20
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2]
    )  # of the sampling; the first also chooses examples
    shots: list[int | None] = field(
        default_factory=lambda: [1, 2, 5, None]
    )  # examples of each class; null: all
    steps: int = 50  # of fine-tuning
    lrs: list[float] = field(default_factory=lambda: [0.1, 0.3, 1.0, 3.0])
    logistic_c: list[float] = field(
        default_factory=lambda: [1.0, 10.0, 100.0]
    )  # inverse regularisation strengths
    neighbours: list[int] = field(
        default_factory=lambda: [1, 2, 5, 10, 20]
    )  # known questions to average over


def fixed_rows(cfg: Config, pipe: WeightPipeline, tasks: MetaVQATasks) -> dict[str, float]:
    """Accuracy of what is not sampled."""
    asked = tasks.with_templates(make_template, pipe.encoder.encode_texts)
    scores = {"chance": chance_scores(tasks), "encoder": encoder_scores(tasks)}
    scores["encoder_with_question"] = encoder_scores(asked)
    for name, folder in (("uncond_multitask", cfg.multitask), ("cond_multitask", cfg.cond_multitask)):
        network, hypernet = training.load_run(folder, "cpu")
        scores[name] = evaluate(network, tasks, lambda batch, _, h=hypernet: h(batch.embeds))
    return {name: score.macro for name, score in scores.items()}


def sampled_rows(cfg: Config, pipe: WeightPipeline, tasks: MetaVQATasks) -> dict[str, dict[str, Any]]:
    """Mean and spread over sampling seeds of HyperLDM's accuracy."""

    def over_seeds(scale: float, mixed: bool = False) -> list[float]:
        how = {"guidance_scale": scale, "num_inference_steps": cfg.num_inference_steps}
        asked = {
            s: baselines.shuffled_questions(tasks.embeds, s) if mixed else tasks.embeds for s in cfg.seeds
        }
        return [zero_shot(pipe, tasks, embeds, seed=seed, **how).macro for seed, embeds in asked.items()]

    found = {str(scale): over_seeds(scale) for scale in cfg.scales}
    mixed = over_seeds(max(cfg.scales), mixed=True)
    return {
        name: {
            "hyperldm": {scale: of(values) for scale, values in found.items()},
            "hyperldm_shuffled": of(mixed),
        }
        for name, of in (("mean", fmean), ("sd", pstdev))
    }


def few_shot_methods(cfg: Config, pipe: WeightPipeline) -> dict[str, tuple[list[Any], Callable[..., float]]]:
    """The settings of every method that learns from examples, and its accuracy: (tasks, shots, setting) → number."""
    network, start = training.load_run(cfg.start, "cpu")
    seed = cfg.seeds[0]
    tuned, fitted, logistic = (
        baselines.fine_tuned_scores,
        baselines.fitted_scores,
        baselines.logistic_regression,
    )
    methods: dict[str, tuple[list[Any], Callable[..., float]]] = {
        "maml": (
            cfg.lrs,
            lambda t, n, lr: tuned(network, start, t, n, steps=cfg.steps, lr=lr, seed=seed).macro,
        ),
        "logistic_regression": (
            cfg.logistic_c,
            lambda t, n, c: fitted(t, lambda: logistic(c), n, seed).macro,
        ),
        "nearest_centroid": ([None], lambda t, n, _: fitted(t, baselines.nearest_centroid, n, seed).macro),
    }
    if cfg.support:
        net, writer = training.load_run(cfg.support, "cpu")
        methods["support_hnet"] = (
            [None],
            lambda t, n, _: baselines.one_pass_scores(net, writer, t, n, seed).macro,
        )
    if pipe.support is not None:
        how = {"num_inference_steps": cfg.num_inference_steps, "seed": seed}

        def both(tasks: MetaVQATasks, shots: int | None, scale: float) -> float:
            shown = embed_shots(pipe.support, tasks, shots, seed)
            return zero_shot(pipe, tasks, tasks.embeds, shown, support_guidance_scale=scale, **how).macro

        methods["question_and_examples"] = (cfg.support_scales, both)
    return methods


def main(cfg: Config) -> None:
    if not cfg.seeds or not cfg.scales or not cfg.curve:
        raise InputError("expected seeds, scales and curve to have at least one number each")
    tasks = load_splits(cfg.dataset, cfg.features, ("train", "validation"), train=True, questions=True)
    known = tasks.pop("train")
    pipe, adapted = (
        WeightPipeline.from_pretrained(cfg.pipeline),
        training.AdaptedTasks.load(cfg.adapted, "cpu"),
    )
    weights = adapted.weights.mean(dim=0)

    def near(part: MetaVQATasks, k: int) -> float:
        average = baselines.neighbours_average
        return evaluate(pipe.network, part, lambda b, _: average(weights, known.embeds, b.embeds, k)).macro

    usable = [k for k in cfg.neighbours if k <= len(known)]
    chosen: dict[str, Any] = {
        "neighbours": best_setting(lambda k: near(tasks["validation"], k), usable, "neighbours")[0]
    }
    splits: dict[str, Any] = {}
    deviations: dict[str, Any] = {}
    for split, part in tqdm(tasks.items(), desc="zero-shot"):
        sampled = sampled_rows(cfg, pipe, part)
        splits[split] = {**fixed_rows(cfg, pipe, part), **sampled["mean"], "few_shot": {}}
        splits[split]["neighbours_average"] = near(part, chosen["neighbours"])
        deviations[split] = sampled["sd"]
    for method, (settings, score) in tqdm(few_shot_methods(cfg, pipe).items(), desc="few-shot"):
        for shots in cfg.shots:
            key = shots_key(shots)
            row = score_chosen(
                lambda s, x, n=shots, f=score: f(tasks[s], n, x), tasks, settings, what=f"{method}, {key}"
            )
            chosen[f"{method}, {key}"] = row["chosen"]
            for split in tasks:
                splits[split]["few_shot"].setdefault(method, {})[key] = row[split]
    how = {"num_inference_steps": cfg.num_inference_steps, "seed": cfg.seeds[0]}
    curve = {str(s): zero_shot(pipe, tasks["validation"], guidance_scale=s, **how).macro for s in cfg.curve}
    write_evaluation(cfg.output, {
        "splits": splits, "sd": deviations, "validation_guidance_curve": curve, "chosen": chosen,
        "tasks": {"train": len(known), **{split: len(part) for split, part in tasks.items()}},
        "seconds": {}, "seeds": cfg.seeds, "settings": vars(cfg), "versions": versions(),
    })  # fmt: skip


if __name__ == "__main__":
    training.run(main, Config, __doc__)
