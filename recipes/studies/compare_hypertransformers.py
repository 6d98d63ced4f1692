r"""Train HyperTransformers that differ in two settings, and compare their accuracy on classes that were not trained on.

    python data/omniglot/prepare.py --npz ../shared/data/omniglot28.npz --split random_characters --output-dir runs/omniglot_random
    python recipes/studies/compare_hypertransformers.py --config recipes/configs/compare_hypertransformers/layers.yaml \
        data=runs/omniglot_random output=results/omniglot/layers

One training by `train_hypertransformer.py` for each pair of a curve and a place; finished ones are reused. Writes `output`.json, .md and
.png. configs/compare_hypertransformers has questions of Zhmoginov et al., 2022, section 4, such as how many layers to generate, and
the rows of results/cifar_fs. 15 minutes to 2 hours for each on one CPU thread.
"""

import re
import sys
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.errors import InputError, check_sizes
from weightgen.reports.figures import draw_curves
from weightgen.reports.stages import Stage, add_recipe, claim_folders, run_stages
from weightgen.reports.tables import markdown_table, percent, spread, versions, write_report
from weightgen.storage.files import read_json

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = "transductive, disjoint"


@dataclass
class Config:
    data: str = training.MISSING  # folder of few-shot images
    output: str = training.MISSING  # .json, .md and .png are added
    base: str = training.MISSING  # a configuration in recipes/configs/train_hypertransformer
    curves: dict[str, Any] = field(default_factory=dict)  # name → settings of the training
    places: dict[str, Any] = field(default_factory=dict)  # name → settings of the training
    settings: dict[str, Any] = field(default_factory=dict)  # of all trainings
    title: str = ""
    xlabel: str = ""
    start: str | None = None  # `runs` of a comparison of the same curves and places, to begin at
    runs: str | None = None  # folder of everything trained; by default runs/ and the name of `output`
    seeds: int = 1
    more_seeds: dict[str, int] = field(default_factory=dict)  # "curve, place" → seeds of that pair
    episodes: int = 1000  # of the evaluation


def stages_of(cfg: Config, runs: Path) -> tuple[dict[str, Stage], dict[tuple[str, str], list[Path]]]:
    """All trainings and evaluations, and curve and place → the evaluation of each seed."""
    stages: dict[str, Stage] = {}
    grid: dict[tuple[str, str], list[Path]] = {}
    data, base = Path(cfg.data).resolve(), f"train_hypertransformer/{cfg.base}"
    how = {"data": data, "transductive": "[true]", "overlap": "[false]", "episodes": cfg.episodes}
    pairs = list(product(cfg.curves, cfg.places))
    if unknown := cfg.more_seeds.keys() - {f"{curve}, {place}" for curve, place in pairs}:
        raise InputError(f"more_seeds names {min(unknown)!r}: expected a curve, a comma and a place")
    for seed, (curve, place) in product(range(max(cfg.seeds, *cfg.more_seeds.values(), 1)), pairs):
        if seed >= cfg.more_seeds.get(f"{curve}, {place}", cfg.seeds):
            continue
        name = f"seed{seed}/" + "_".join(re.findall(r"\w+", f"{curve} {place}"))
        words = {"data": data, "seed": seed, **cfg.settings, **cfg.curves[curve], **cfg.places[place]}
        if cfg.start is not None:
            words["start"] = Path(cfg.start).resolve() / name
            training.read_facts(words["start"])  # one that is missing is an error now, not hours later
        add_recipe(stages, name, runs / name, "recipes/train_hypertransformer.py", base, settings=words)
        report, script = f"{name}.json", "recipes/evaluate_episodes.py"
        add_recipe(stages, report, runs / report, script, of={"run": name}, settings=how)
        grid.setdefault((curve, place), []).append(runs / report)
    return stages, grid


def cell_of(evaluations: list[Path]) -> dict[str, Any]:
    """Accuracy as a share: mean and s.d. over seeds, or for one seed half the 95 % interval over episodes in place of the latter."""
    results = [read_json(path)["results"][PROTOCOL] for path in evaluations]
    found = spread([one["accuracy"] / 100 for one in results])
    halves = [one["interval"] / 100 for one in results]
    rows = [training.read_metrics(path.with_suffix("") / "metrics.jsonl")[-1] for path in evaluations]
    validation = [row["validation_accuracy"] for row in rows]
    std = halves[0] if found["std"] is None else found["std"]
    return found | {
        "std": std,
        "intervals": halves,
        "episodes_trained": int(rows[0]["episodes"]),
        "validation": validation,
    }


def text_of(cfg: Config, report: dict[str, Any]) -> str:
    """The table with what it needs to be understood."""
    cells = report["accuracy"]
    counts = {f"{cell['episodes_trained']:,}" for row in cells.values() for cell in row.values()}
    head = f"# {cfg.title}\n\nAccuracy in %, {report['ways']}-way {report['shots']}-shot, on {cfg.episodes} episodes of test classes, "
    head += f"protocol `{report['protocol']}`, {PROTOCOL}. Episodes trained: {' or '.join(sorted(counts))}. ± half of the 95 % "
    head += "interval over episodes, one training each; where several seeds are named, the standard deviation over them.\n"
    body = [[curve, *(percent(cell) + f" ({len(cell['seeds'])} seeds)" * (len(cell["seeds"]) > 1) for cell in row.values())]
            for curve, row in cells.items()]  # fmt: skip
    return f"{head}\n{markdown_table([cfg.xlabel, *cfg.places], body)}"


def main(cfg: Config) -> None:
    check_sizes(1, seeds=[cfg.seeds, *cfg.more_seeds.values()])
    settings = all(isinstance(one, dict) for one in (*cfg.curves.values(), *cfg.places.values()))
    if not (cfg.curves and cfg.places and settings) or cfg.episodes < 2:
        raise InputError("expected curves, places, settings (or {}) of each, and at least two episodes")
    runs = Path(cfg.runs or f"runs/{Path(cfg.output).name}").resolve()
    stages, grid = stages_of(cfg, runs)
    asked = {"protocol": FewShotArrays(cfg.data).protocol}
    asked |= training.pick(cfg, "base", "settings", "curves", "places", "episodes", "start")
    claim_folders([runs], asked)
    seconds = run_stages(stages, ROOT, runs / "seconds.json")
    cells = {curve: {place: cell_of(grid[curve, place]) for place in cfg.places} for curve in cfg.curves}
    first = training.read_facts(next(iter(stages.values())).makes)["settings"]
    report = {**asked, **{key: first[key] for key in ("ways", "shots")}, "accuracy": cells, "seconds": seconds, "versions": versions(),
              "command": " ".join(["python", *sys.argv])}  # fmt: skip
    write_report(cfg.output, report, text_of(cfg, report))
    draw_curves(cells, {}, f"{cfg.output}.png", cfg.xlabel, cfg.title)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
