r"""Score SupportHNets on held-out tasks beside gradient descent on the very same examples.

    python recipes/studies/score_support.py dataset=runs/demo/photos/dataset \
        "runs=[runs/scenes/seed0/support,runs/scenes/seed1/support]" "starts=[runs/scenes/seed0/maml,runs/scenes/seed1/maml]" \
        output=results/scenes/support

Writes `output`.json and `output`.md: accuracy with `shots` examples of each class and with all, mean ± standard deviation over the runs,
which should be of several training seeds; and milliseconds for each task, of both in turns. Step sizes of gradient descent are chosen
on validation tasks, one for each number of examples. After Zhmoginov et al., 2022. 3 minutes for each run on one CPU thread.
"""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from weightgen import training
from weightgen.adaptation import fine_tune
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation import chance_scores, encoder_scores
from weightgen.reports import tables
from weightgen.reports.few_shot import few_shot_rows, fine_tuning, one_pass
from weightgen.reports.splits import load_splits
from weightgen.reports.timing import time_in_turns


@dataclass
class Config:
    dataset: str = training.MISSING
    runs: list[str] = training.MISSING  # outputs of train_support
    starts: list[str] = (
        training.MISSING
    )  # outputs of train_hypernet, where gradient descent starts; one for each run
    output: str = training.MISSING  # .json and .md are added
    features: str | None = None
    shots: list[int | None] = field(default_factory=lambda: [1, 2, 5, None])  # of each class; null: all
    steps: int = 50
    lrs: list[float] = field(default_factory=lambda: [0.3, 1.0, 3.0])
    timed_tasks: int = 20
    timed_batch: int = 32
    seed: int = 0  # of the choice of examples


@torch.no_grad()
def milliseconds(cfg: Config, run: Any, start: Any, tasks: MetaVQATasks, lr: float) -> dict[str, Any]:
    """Milliseconds for each task with all its examples, one task at a time and in batches."""
    (_, hypernet), (base, shared) = run, start
    sets = {
        "alone": [[row] for row in range(min(cfg.timed_tasks, len(tasks)))],
        f"batches of {cfg.timed_batch}": [list(range(min(cfg.timed_batch, len(tasks))))],
    }
    found: dict[str, Any] = {}
    for name, chosen in sets.items():
        rows: dict[str, list[float]] = {"one pass": [], "gradient descent": []}
        for numbers in chosen:
            batch = tasks.batch(numbers)
            ways = {
                "one pass": lambda b=batch: hypernet(b.support, b.context["answers"]),
                "gradient descent": lambda b=batch: fine_tune(base, shared, b, steps=cfg.steps, lr=lr),
            }
            for way, took in time_in_turns(ways).items():
                rows[way].append(1000 * median(each.seconds for each in took) / len(numbers))
        found[name] = {way: median(values) for way, values in rows.items()}
    return found


def main(cfg: Config) -> None:
    if not cfg.runs or len(cfg.runs) != len(cfg.starts):
        raise InputError(
            f"expected one of starts for each of runs, got {len(cfg.starts)} and {len(cfg.runs)}"
        )
    tasks, descent = load_splits(cfg.dataset, cfg.features), f"{cfg.steps} gradient steps"
    keys = [tables.shots_key(count) for count in cfg.shots]
    fixed = {
        split: {name: dict.fromkeys(keys, of(part).macro) for name, of in (("chance", chance_scores), ("encoder", encoder_scores))}
        for split, part in tasks.items() if split != "validation"
    }  # fmt: skip
    seen: dict[str, dict[str, list[dict[str, float]]]] = {}
    lrs, times = [], []
    for folder, origin in zip(tqdm(cfg.runs, desc="scoring"), cfg.starts, strict=True):
        run, start = training.load_run(folder, "cpu"), training.load_run(origin, "cpu")
        methods = {
            descent: fine_tuning(*start, cfg.steps, cfg.lrs, cfg.seed),
            "SupportHNet, one pass": one_pass(*run, cfg.seed),
        }
        rows, chosen = few_shot_rows(methods, tasks, cfg.shots)
        tables.collect_seed(seen, {split: {**fixed[split], **rows[split]} for split in fixed})
        lrs.append(chosen[descent])
        lr = chosen[descent].get("all", cfg.lrs[0])
        times.append(milliseconds(cfg, run, start, tasks["validation"], lr))
    accuracy = tables.spread_by_shots(seen)
    took = {how: {way: median(t[how][way] for t in times) for way in times[0][how]} for how in times[0]}
    text = (
        f"Weights from examples, on the same examples. Accuracy in %, {tables.over_seeds(len(cfg.runs))}.\n"
    )
    text += f"{tables.tables_by_shots(accuracy)}\nMilliseconds for a task, all its examples, {torch.get_num_threads()} CPU thread(s).\n\n"
    ways = next(iter(took.values()))
    text += tables.markdown_table(
        ["", *took], [[way, *(f"{took[how][way]:.1f}" for how in took)] for way in ways]
    )
    report = {
        "settings": asdict(cfg),
        "versions": tables.versions(),
        "lrs": lrs,
        "accuracy": accuracy,
        "milliseconds": took,
    }
    tables.write_report(cfg.output, report, text)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
