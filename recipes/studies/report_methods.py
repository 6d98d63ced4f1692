"""Tables and figures of the paper, from the scores of several seeds.

    python recipes/report_methods.py runs=runs/scenes output=results/scenes seeds=3

`reproduce.py` calls it. Writes, as JSON with the value of every seed and as a table or a picture: table1 (zero-shot, by share of the
questions), table4 (few-shot), task_inference (HyperCLIP, the paper's figure 3), figure5a (accuracy against guidance scale) and figure5b
(accuracy against share of the questions), both on test tasks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from weightgen.errors import one_line_errors
from weightgen.reports.figures import draw_curves
from weightgen.reports.tables import HELD_OUT, over_seeds, percent, spread, table, versions
from weightgen.storage.files import read_json, write_json, written_beside
from weightgen.training.config import parse

ZERO_SHOT = {
    "cond_multitask": "Cond. Multitask",
    "film": "Cond. Multitask FiLM",
    "cond_hnet_maml": "Cond. HNet-MAML",
    "hyperclip_hnet": "HNet + HyperCLIP guidance",
    "hyperclip": "HVAE + HyperCLIP guidance",
    "hyperldm_hnet": "HNet + HyperLDM",
    "hyperldm_paper": "HVAE + HyperLDM (paper)",
    "hyperldm": "HVAE + HyperLDM (weightgen)",
}  # rows by share of the questions
FLOORS = {
    "chance": "chance",
    "clip": "CLIP as base model",
    "clip_with_question": "CLIP, question in the answers' statements",
    "multitask": "Uncond. Multitask (floor)",
    "maml": "Uncond. MNet-MAML",
    "fomaml": "Uncond. MNet-FOMAML",
    "hnet_maml": "Uncond. HNet-MAML",
    "few_shot_maml": "few-shot MNet-MAML (ceiling)",
}
FEW_SHOT = {
    "chance": "chance",
    "clip": "CLIP as base model (floor)",
    "few_shot_multitask": "Uncond. Multitask",
    "few_shot_fomaml": "Uncond. MNet-FOMAML",
    "few_shot_maml": "Uncond. MNet-MAML",
    "few_shot_hnet_maml": "Uncond. HNet-MAML",
    "few_shot_cond_multitask": "Cond. Multitask",
    "few_shot_film": "Cond. Multitask FiLM",
    "few_shot_cond_hnet_maml": "Cond. HNet-MAML",
}
INFERENCE = {"hyperclip": "weights of MNet-MAML, through the HVAE", "hyperclip_hnet": "weights of HNet-MAML"}
PLAIN = ", temperature 1.0"  # figure 5a shows these samples
RANKS = {
    "top_1": "top 1",
    "top_10": "top 10",
    "chance_top_1": "chance, top 1",
    "chance_top_10": "chance, top 10",
}


@dataclass
class Config:
    runs: str = MISSING  # folder that reproduce.py has filled
    output: str = MISSING  # folder of tables and figures
    seeds: int = 3
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions


def spreads(rows: Sequence[Mapping[str, Any]], keys: Iterable[str]) -> dict[str, dict[str, Any]]:
    """`spread` of each key over the rows of the seeds."""
    return {key: spread([row[key] for row in rows]) for key in keys if key in rows[0]}


class Report:
    """What all tables and figures share: where they go, what they come from, and the numbers to compare with."""

    def __init__(self, cfg: Config) -> None:
        folders = [Path(cfg.runs) / f"seed{seed}" for seed in range(cfg.seeds)]
        self.scores = [read_json(folder / "scores.json") for folder in folders]
        clocks = [read_json(Path(cfg.runs) / f"seconds{seed}.json") for seed in range(cfg.seeds)]
        self.shares = sorted(cfg.shares)
        self.output = Path(cfg.output)
        self.output.mkdir(parents=True, exist_ok=True)
        compare = {"chance": "chance", "floor": "multitask", "ceiling": "few_shot_maml"}
        self.facts = {
            "seeds": cfg.seeds,
            "seconds": round(sum(sum(clock.values()) for clock in clocks)),
            "versions": versions(),
            **{name: self.row(row) for name, row in compare.items()},
        }

    def row(self, name: str) -> dict[str, dict[str, Any]]:
        """Accuracy of one method by split."""
        return spreads([score["rows"][name] for score in self.scores], HELD_OUT)

    def table(
        self, name: str, title: str, columns: Mapping[str, str], rows: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """`name`.json and `name`.md with the same numbers."""
        write_json(self.output / f"{name}.json", {"title": title, **self.facts, "rows": rows})
        shown = [key for key in columns if any(key in row for row in rows.values())]
        cells = {label: [percent(row[key]) for key in shown] for label, row in rows.items()}
        text = f"{title} In %, {over_seeds(len(self.scores))}.\n\n"
        text += table([columns[key] for key in shown], cells)
        with written_beside(self.output / f"{name}.md", overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")

    def tables(self) -> None:
        zero = {label: self.row(row) for row, label in FLOORS.items()}
        for share in reversed(self.shares):
            zero |= {f"{label}, {share} % Q.": self.row(f"{row}_{share}") for row, label in ZERO_SHOT.items()}
        self.table("table1", "Zero-shot (the paper's table 1): accuracy.", HELD_OUT, zero)
        few = {label: self.row(row) for row, label in FEW_SHOT.items()}
        known = "all" if self.shares[-1] == 100 else f"{self.shares[-1]} % of the"
        title = f"Few-shot, 50 gradient steps: accuracy; conditional methods know {known} questions."
        self.table("table4", title, HELD_OUT, few)
        ranks = {
            f"{label}, {share} % Q.": spreads(
                [s["task_inference"][f"{name}_{share}"] for s in self.scores], RANKS
            )
            for name, label in INFERENCE.items()
            for share in reversed(self.shares)
        }
        count = self.scores[0]["task_inference"][f"hyperclip_{self.shares[-1]}"]["candidates"]
        title = f"How often HyperCLIP ranks the right one of {count} test questions first, or among ten."
        self.table("task_inference", title, RANKS, ranks)

    def figure(self, name: str, curves: dict[str, Any], lines: dict[str, Any], **words: Any) -> None:
        """`name`.json and `name`.png with the same numbers."""
        write_json(self.output / f"{name}.json", {**self.facts, "curves": curves, "lines": lines})
        with written_beside(self.output / f"{name}.png", overwrite=True) as partial:
            draw_curves(curves, lines, partial, **words)

    def figures(self) -> None:
        floors = {
            "CLIP (floor)": self.row("clip")["test"],
            "few-shot MNet-MAML": self.row("few_shot_maml")["test"],
        }
        scales = {}
        for share in reversed(self.shares):
            tried = [score["rows"][f"hyperldm_{share}"]["curve"] for score in self.scores]
            scales[f"HyperLDM, {share} % Q."] = {
                name.removeprefix("scale ").removesuffix(PLAIN): value
                for name, value in spreads(tried, tried[0]).items()
                if name.endswith(PLAIN)
            }
        lines = {
            f"Cond. Multitask, {share} % Q.": self.row(f"cond_multitask_{share}")["test"]
            for share in reversed(self.shares)
        }
        self.figure(
            "figure5a", scales, {**lines, "CLIP (floor)": floors["CLIP (floor)"]},
            xlabel="guidance scale", title="HVAE + HyperLDM (weightgen) on test tasks",
        )  # fmt: skip
        by_share = {
            label: {str(share): self.row(f"{row}_{share}")["test"] for share in self.shares}
            for row, label in ZERO_SHOT.items()
        }
        self.figure(
            "figure5b",
            by_share,
            floors,
            xlabel="share of training questions (%)",
            title="Zero-shot on test tasks",
        )


def main(cfg: Config) -> None:
    report = Report(cfg)
    report.tables()
    report.figures()
    for name in ("table1", "table4", "task_inference"):
        print((report.output / f"{name}.md").read_text())


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
