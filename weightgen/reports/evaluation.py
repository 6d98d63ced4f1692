"""The report of `recipes/evaluate.py`: one table and two figures of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weightgen.reports.figures import draw_bars, draw_curves
from weightgen.reports.tables import flat_rows, markdown_table, percent, title_of, write_report
from weightgen.storage.files import StrPath


def evaluation_text(report: Mapping[str, Any]) -> str:
    """Every row of every split as one Markdown table, in percent; sampled rows with their spread over sampling seeds.

    Args:
        report: "splits": split → nested rows of accuracies, the same ones for all splits; "sd": of those rows that have one; "seeds".
    """
    columns = {split: flat_rows(rows) for split, rows in report["splits"].items()}
    spreads = {split: flat_rows(rows) for split, rows in report["sd"].items()}

    def cell(split: str, row: str) -> str:
        value, sd = columns[split][row], spreads.get(split, {}).get(row)
        return percent(value if sd is None else {"mean": value, "std": sd})

    rows = [[row, *(cell(split, row) for split in columns)] for row in next(iter(columns.values()))]
    head = f"Accuracy in %; ± is the standard deviation over {len(report['seeds'])} sampling seeds.\n\n"
    return head + markdown_table(["", *map(title_of, columns)], rows)


def write_evaluation(output: StrPath, report: Mapping[str, Any]) -> None:
    """Write the report to `output`, a JSON file, and the table and the figures beside it."""
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_bars(
        {split: flat_rows(rows) for split, rows in report["splits"].items()}, path.with_name("accuracies.png")
    )
    curve = {
        scale: {"mean": value, "std": None} for scale, value in report["validation_guidance_curve"].items()
    }
    draw_curves({"HyperLDM": curve}, {}, path.with_name("guidance.png"), "guidance scale", "Validation tasks")
    write_report(path.with_suffix(""), report, evaluation_text(report))
