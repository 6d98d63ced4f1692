r"""Score pipelines that take questions, examples, or both, on held-out tasks.

    python recipes/studies/score_text_and_support.py dataset=runs/demo/photos/dataset \
        "pipelines=[runs/scenes/seed0/hyperldm_support]" output=results/scenes/text_and_support

The pipelines are outputs of train_hyperldm with `support`. Writes `output`.json and `output`.md: accuracy of one network sampled from the
question only, from `shots` examples of each class only, and from both, mean ± standard deviation over the pipelines, which should be of
several training seeds; and of the one pass that the examples go through, without diffusion. The scales are chosen on validation tasks,
for each of these. After Zhmoginov et al., 2022, and Nava, Kobayashi et al., 2023. 2 minutes for each pipeline on one CPU thread.
"""

from dataclasses import asdict, dataclass, field
from itertools import product

from tqdm import tqdm

from weightgen import training
from weightgen.errors import InputError
from weightgen.evaluation import chance_scores, encoder_scores, zero_shot
from weightgen.reports import tables
from weightgen.reports.choice import score_chosen
from weightgen.reports.few_shot import few_shot_rows, one_pass, sampling
from weightgen.reports.splits import load_pipeline, load_splits


@dataclass
class Config:
    dataset: str = training.MISSING
    pipelines: list[str] = training.MISSING
    output: str = training.MISSING  # .json and .md are added
    features: str | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    shots: list[int | None] = field(default_factory=lambda: [1, 2, 5, None])  # of each class; null: all
    scales: list[float] = field(default_factory=lambda: [1.0, 1.5])
    support_scales: list[float] = field(default_factory=lambda: [1.0, 1.5, 2.0])
    num_inference_steps: int = 20
    seed: int = 0  # of the choice of examples, and of sampling


def main(cfg: Config) -> None:
    if not cfg.pipelines:
        raise InputError("expected at least one pipeline")
    tasks = load_splits(cfg.dataset, cfg.features, questions=True)
    held_out, keys = (
        [name for name in tasks if name != "validation"],
        [tables.shots_key(count) for count in cfg.shots],
    )
    how, seen = {"seed": cfg.seed, "num_inference_steps": cfg.num_inference_steps}, {}
    chosen = []
    for folder in tqdm(cfg.pipelines, desc="scoring"):
        pipe = load_pipeline(folder, tasks, cfg.trust_remote_code)
        alone = [(1.0, scale) for scale in cfg.support_scales]
        methods = {
            "examples only": sampling(pipe, alone, question=False, **how),
            "question and examples": sampling(pipe, list(product(cfg.scales, cfg.support_scales)), **how),
            "examples, one pass": one_pass(pipe.network, pipe.support, cfg.seed),
        }
        rows, settings = few_shot_rows(methods, tasks, cfg.shots)
        asked = score_chosen(
            lambda split, scale, p=pipe: zero_shot(p, tasks[split], guidance_scale=scale, **how).macro,
            tasks,
            cfg.scales,
        )
        fixed = {
            split: {"chance": chance_scores(tasks[split]).macro, "encoder": encoder_scores(tasks[split]).macro,
                    "question only": asked[split]} for split in held_out
        }  # fmt: skip
        same = {
            split: {row: dict.fromkeys(keys, value) for row, value in fixed[split].items()}
            for split in held_out
        }
        tables.collect_seed(seen, {split: same[split] | rows[split] for split in held_out})
        chosen.append({"question only": asked["chosen"], **settings})
    accuracy = tables.spread_by_shots(seen)
    report = {"settings": asdict(cfg), "versions": tables.versions(), "chosen": chosen, "accuracy": accuracy}
    title = f"Weights from a question, from examples, and from both. Accuracy in %, {tables.over_seeds(len(cfg.pipelines))}.\n"
    tables.write_report(cfg.output, report, title + tables.tables_by_shots(accuracy))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
