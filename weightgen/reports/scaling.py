"""Scores against the number of training meanings, over seeds: JSON, two tables and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from weightgen.reports.figures import draw_curves
from weightgen.reports.splits import scored_split
from weightgen.reports.tables import (
    markdown_table,
    over_seeds,
    percent,
    spread,
    title_of,
    versions,
    write_report,
)
from weightgen.storage.files import StrPath

BySplit = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Split → number of meanings → scores by name: "accuracy", and of generated weights "nll" and "calibration_error"."""


def write_scaling(output: StrPath, meanings: Sequence[int], seeds: Sequence[Mapping[str, BySplit]]) -> None:
    """Write `output`.json with the value of every seed, and `output`.md and .png of the first split that is no validation.

    Args:
        output: without ending.
        meanings: numbers of training meanings.
        seeds: of each training seed: row → split → number of meanings → scores. A row with a comma, such as "Cond. Multitask,
            tokens", is drawn as a curve, every other one as a line.
    """
    rows = {
        row: {
            split: {
                count: {name: spread([seed[row][split][count][name] for seed in seeds]) for name in values}
                for count, values in counts.items()
            }
            for split, counts in splits.items()
        }
        for row, splits in seeds[0].items()
    }
    split = scored_split(next(iter(rows.values())))
    shown: dict[str, Any] = {row: splits[split] for row, splits in rows.items()}
    accuracy = {row: {n: value["accuracy"] for n, value in counts.items()} for row, counts in shown.items()}
    cells = [[row, *map(percent, counts.values())] for row, counts in accuracy.items()]
    runs = over_seeds(len(seeds))
    head = f"Accuracy on {title_of(split)} against the number of training meanings, in %, {runs}.\n\n"
    text = head + markdown_table(["", *map(str, meanings)], cells) + _likelihood(shown, str(max(meanings)))
    facts = {"meanings": list(meanings), "seeds": len(seeds), "versions": versions()}
    write_report(output, {"rows": rows, **facts}, text)
    lines = {row: next(iter(counts.values())) for row, counts in accuracy.items() if "," not in row}
    curves = {row: counts for row, counts in accuracy.items() if "," in row}
    draw_curves(curves, lines, f"{output}.png", "training meanings", f"{title_of(split)}, {runs}")


def _likelihood(shown: Mapping[str, Any], most: str) -> str:
    """Likelihood and calibration of generated weights, for the largest number of meanings."""
    cells = [
        [row, number(counts[most]["nll"]), percent(counts[most]["calibration_error"])]
        for row, counts in shown.items()
        if "nll" in counts[most]
    ]
    columns = ["", "negative log-likelihood (nats)", "calibration error (%)"]
    head = f"\nWith {most} meanings, how likely the right answers are, and how far confidence is from accuracy.\n\n"
    return head + markdown_table(columns, cells)


def number(value: Mapping[str, Any]) -> str:
    """What `spread` returns as "0.57 ± 0.02"."""
    text = f"{value['mean']:.2f}"
    return text if value["std"] is None else f"{text} ± {value['std']:.2f}"
