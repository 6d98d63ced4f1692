r"""Two questions in one network: which way of composing two prompts keeps both meanings?

    python recipes/studies/compose_prompts.py dataset=runs/demo-scenes/scenes/dataset \
        pipeline=runs/demo-scenes/pipeline output=results/scenes/composition

Writes `output`.json and .md. Pairs are tasks of held-out meanings that ask for two attributes, of one thing or of two. The network of a
pair is scored on both tasks, each with its own answers; the accuracy on the worse of the two says whether both meanings were kept. The
guidance scale of each way is chosen on validation pairs. 2 minutes on one CPU thread.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from weightgen import training
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.evaluation import evaluate
from weightgen.evaluation.composition import Pairs, PairSampler
from weightgen.reports.splits import load_pipeline, load_splits, scored_split
from weightgen.reports.tables import markdown_table, percent, versions, write_report
from weightgen.weights import FunctionalNetwork


@dataclass
class Config:
    dataset: str = training.MISSING
    pipeline: str = training.MISSING
    output: str = training.MISSING  # .json and .md are added
    features: str | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    scales: list[float] = field(default_factory=lambda: [0.5, 1.0, 1.5, 2.0])
    samples: int = 4
    pairs: int = 200  # at most
    seed: int = 0


def paired(tasks: MetaVQATasks, most: int, seed: int) -> dict[str, Pairs]:
    """Pairs of tasks that ask for two attributes: of one thing, and of two things."""
    parts = [meaning.partition(" the ") for meaning in tasks.meanings]
    things: dict[str, list[int]] = defaultdict(list)
    for row, part in enumerate(parts):
        things[part[2]].append(row)
    drawn = torch.Generator().manual_seed(seed)
    every = [(a, b) for a, b in combinations(range(len(tasks)), 2) if parts[a][2] != parts[b][2]]
    rows = {
        "one thing": [pair for same in things.values() for pair in combinations(same, 2)],
        "two things": [every[i] for i in torch.randperm(len(every), generator=drawn).tolist()],
    }
    found = {}
    for name, pairs in rows.items():
        kept = [(a, b) for a, b in pairs if parts[a][0] != parts[b][0]][:most]
        if not kept:
            raise InputError(
                f"no two tasks ask for two attributes of {name}: give a data set with such meanings"
            )
        found[name] = (tasks.subset([a for a, _ in kept]), tasks.subset([b for _, b in kept]))
    return found


def scored(network: FunctionalNetwork, pairs: Pairs, weights: Tensor) -> dict[str, float]:
    """Mean accuracy on the first tasks, on the second, and on the worse of each pair."""
    first, second = (evaluate(network, part, lambda _, rows: weights[rows]).accuracy for part in pairs)
    worse = torch.minimum(first, second)
    return {"first": first.mean().item(), "second": second.mean().item(), "worse": worse.mean().item()}


def main(cfg: Config) -> None:
    tasks = load_splits(cfg.dataset, cfg.features, needs=("validation",), questions=True)
    pipe, split = load_pipeline(cfg.pipeline, tasks, cfg.trust_remote_code), scored_split(tasks)
    validation, test = (paired(tasks[name], cfg.pairs, cfg.seed) for name in ("validation", split))
    sampler = PairSampler(pipe, cfg.samples, cfg.seed)
    rows: dict[str, Any] = {}
    for name, way in sampler.ways.items():

        def score(pairs: Pairs, scale: float, way: Any = way) -> dict[str, float]:
            return scored(pipe.network, pairs, way(pairs, scale))

        tried = {scale: score(validation["two things"], scale)["worse"] for scale in cfg.scales}
        best = max(tried, key=lambda scale: tried[scale])
        rows[name] = {"scale": best, **{kind: score(pairs, best) for kind, pairs in test.items()}}
        print(f"{name}: {rows[name]}", flush=True)
    own = PairSampler.alone
    for kind, pairs in test.items():  # the ceiling: a network of its own for each task
        weights = [own(sampler, (part, part), rows["first question alone"]["scale"]) for part in pairs]
        each = [
            evaluate(pipe.network, part, lambda _, r, w=w: w[r]).accuracy
            for part, w in zip(pairs, weights, strict=True)
        ]
        found = {"first": each[0], "second": each[1], "worse": torch.minimum(*each)}
        rows.setdefault(
            "two networks, one for each question", {"scale": rows["first question alone"]["scale"]}
        )[kind] = {key: value.mean().item() for key, value in found.items()}
    columns = ["", "scale", *(f"{kind}: {key}" for kind in test for key in ("first", "second", "worse"))]
    cells = [
        [
            name,
            str(row["scale"]),
            *(percent(row[kind][key]) for kind in test for key in ("first", "second", "worse")),
        ]
        for name, row in rows.items()
    ]
    counts = {kind: len(pairs[0]) for kind, pairs in test.items()}
    text = f"Accuracy in % on pairs of tasks of {split}: {counts}.\n\n{markdown_table(columns, cells)}\n"
    write_report(cfg.output, {"split": split, "pairs": counts, "rows": rows, "versions": versions()}, text)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
