"""Tables and figures of the paper, from the scores of several seeds.

    python recipes/studies/report_methods.py runs=runs/scenes output=results/scenes seeds=3

`reproduce.py` calls it. Writes, as JSON with the value of every seed and as a table or a picture: table1 (zero-shot, by share of the
questions), table4 (few-shot), task_inference (HyperCLIP, the paper's figure 3), figure5a (accuracy against guidance scale) and figure5b
(accuracy against share of the questions), both on test tasks; and chosen.json, the setting that validation tasks chose for each method,
with their accuracy for every setting. Nava, Kobayashi et al., 2023. A few seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.reports.figures import draw_curves
from weightgen.reports.methods import FEW_SHOT, FLOORS, INFERENCE, RANKS, RETRIEVED, ZERO_SHOT
from weightgen.reports.seeds import SeedScores
from weightgen.reports.splits import scored_split
from weightgen.reports.tables import markdown_table, over_seeds, percent, spread, title_of, write_report
from weightgen.storage.files import write_json

PLAIN = ", temperature 1.0"  # figure 5a shows these samples


@dataclass
class Config:
    runs: str = training.MISSING  # folder that reproduce.py has filled
    output: str = training.MISSING  # folder of tables and figures
    seeds: int = 3
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions


def by_share(cfg: Config, labels: Mapping[str, str]) -> dict[str, str]:
    """What a table calls a method that knows a share of the questions → the method, with the share."""
    shares = sorted(cfg.shares, reverse=True)
    return {f"{label}, {n} % Q.": f"{name}_{n}" for n in shares for name, label in labels.items()}


def write_table(
    cfg: Config, found: SeedScores, name: str, title: str, columns: Mapping[str, str], rows: dict[str, Any]
) -> None:
    """`name`.json and `name`.md with the same numbers."""
    cells = [[label, *(percent(row[key]) for key in columns)] for label, row in rows.items()]
    text = f"{title} In %, {over_seeds(len(found))}.\n\n{markdown_table(['', *columns.values()], cells)}"
    write_report(Path(cfg.output) / name, {"title": title, **found.facts, "rows": rows}, text)


def write_tables(cfg: Config, found: SeedScores) -> None:
    splits, most = {name: title_of(name) for name in found.splits}, max(cfg.shares)
    zero = {label: found.row(row) for row, label in FLOORS.items()}
    zero |= {label: found.row(row) for label, row in by_share(cfg, ZERO_SHOT | RETRIEVED).items()}
    write_table(cfg, found, "table1", "Zero-shot (the paper's table 1): accuracy.", splits, zero)
    known = "all" if most == 100 else f"{most} % of the"
    steps = found.scores[0]["rows"]["few_shot_maml"]["chosen"].split(" steps")[0]
    title = f"Few-shot, {steps} gradient steps: accuracy; conditional methods know {known} questions."
    few = {label: found.row(row) for row, label in FEW_SHOT.items()}
    write_table(cfg, found, "table4", title, splits, few)
    inferred = by_share(cfg, INFERENCE)
    ranks = {label: found.spreads("task_inference", row, RANKS) for label, row in inferred.items()}
    count = found.scores[0]["task_inference"][f"hyperclip_{most}"]["candidates"]
    title = f"How often HyperCLIP ranks the right one of {count} test questions first, or among ten."
    write_table(cfg, found, "task_inference", title, RANKS, ranks)


def write_figure(
    cfg: Config,
    found: SeedScores,
    name: str,
    curves: dict[str, Any],
    lines: dict[str, Any],
    xlabel: str,
    title: str,
    paired: bool = False,
) -> None:
    """`name`.json and `name`.png with the same numbers."""
    write_json(Path(cfg.output) / f"{name}.json", {**found.facts, "curves": curves, "lines": lines})
    draw_curves(curves, lines, Path(cfg.output) / f"{name}.png", xlabel, title, paired)


def write_figures(cfg: Config, found: SeedScores) -> None:
    test = scored_split(found.splits)
    floor, scales = {"encoder (floor)": found.row("encoder")[test]}, {}
    for label, row in by_share(cfg, {"hyperldm": "HyperLDM"}).items():
        keys = [key for key in found.scores[0]["rows"][row]["curve"] if key.endswith(PLAIN)]
        curves = [score["rows"][row]["curve"] for score in found.scores]
        scales[label] = {name_of(key): spread([curve[key] for curve in curves]) for key in keys}
    conditional = by_share(cfg, {"cond_multitask": "Cond. Multitask"})
    lines = {label: found.row(row)[test] for label, row in conditional.items()} | floor
    title = f"HVAE + HyperLDM (weightgen) on {title_of(test)}"
    write_figure(cfg, found, "figure5a", scales, lines, "guidance scale", title, paired=True)
    shares = {
        label: {str(n): found.row(f"{row}_{n}")[test] for n in sorted(cfg.shares)}
        for row, label in (ZERO_SHOT | RETRIEVED).items()
    }
    lines = {**floor, "few-shot MNet-MAML": found.row("few_shot_maml")[test]}
    title, xlabel = f"Zero-shot on {title_of(test)}", "share of training questions (%)"
    write_figure(cfg, found, "figure5b", shares, lines, xlabel, title)


def name_of(key: str) -> str:
    return key.removeprefix("scale ").removesuffix(PLAIN)


def main(cfg: Config) -> None:
    found = SeedScores(cfg.runs, cfg.seeds)
    write_json(Path(cfg.output) / "chosen.json", {**found.facts, "rows": found.chosen()})
    write_tables(cfg, found)
    write_figures(cfg, found)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
