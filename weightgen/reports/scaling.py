"""Accuracy against the number of training meanings, over seeds: JSON, a table and a figure."""

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

BySplit = Mapping[str, Mapping[str, float]]
"""Split → number of meanings → accuracy."""


def write_scaling(output: StrPath, meanings: Sequence[int], seeds: Sequence[Mapping[str, BySplit]]) -> None:
    """Write `output`.json with the value of every seed, and `output`.md and .png of the first split that is no validation.

    Args:
        output: without ending.
        meanings: numbers of training meanings.
        seeds: of each training seed: row → split → number of meanings → accuracy. A row with a comma, such as "Cond. Multitask,
            tokens", is drawn as a curve, every other one as a line.
    """
    rows = {
        row: {
            split: {count: spread([seed[row][split][count] for seed in seeds]) for count in counts}
            for split, counts in splits.items()
        }
        for row, splits in seeds[0].items()
    }
    split = scored_split(next(iter(rows.values())))
    shown: dict[str, Any] = {row: splits[split] for row, splits in rows.items()}
    cells = [[row, *map(percent, counts.values())] for row, counts in shown.items()]
    runs = over_seeds(len(seeds))
    head = f"Accuracy on {title_of(split)} against the number of training meanings, in %, {runs}.\n\n"
    text = head + markdown_table(["", *map(str, meanings)], cells)
    facts = {"meanings": list(meanings), "seeds": len(seeds), "versions": versions()}
    write_report(output, {"rows": rows, **facts}, text)
    lines = {row: next(iter(counts.values())) for row, counts in shown.items() if "," not in row}
    curves = {row: counts for row, counts in shown.items() if "," in row}
    draw_curves(curves, lines, f"{output}.png", "training meanings", f"{title_of(split)}, {runs}")
