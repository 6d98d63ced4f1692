"""Average the reports of several training seeds, as recipes/evaluate.py writes them, into one table.

    for SEED in 0 1 2; do python recipes/demo.py demo=photos training_seed=$SEED output=runs/photos$SEED; done
    python recipes/studies/average_reports.py output=results/photos/table \
        "reports=[runs/photos0/report.json,runs/photos1/report.json,runs/photos2/report.json]"

Writes `output`.json, with the value of every seed, and `output`.md: accuracies, the lead of one row over another within
a seed, and how well the familiarity of a question tells a split from the validation tasks (AUROC). The reports must be
of the same splits, methods and settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weightgen import training
from weightgen.errors import InputError
from weightgen.reports.tables import (
    flat_rows,
    markdown_table,
    over_seeds,
    percent,
    spread,
    title_of,
    versions,
    write_report,
)
from weightgen.storage.files import read_json


@dataclass
class Config:
    reports: list[str] = training.MISSING  # report.json of each training seed
    output: str = training.MISSING  # .json and .md are added
    lead: list[str] = field(
        default_factory=lambda: ["hyperldm, 1.0", "cond_multitask"]
    )  # the first over the second


def read_reports(paths: Sequence[str]) -> list[dict[str, Any]]:
    """The reports, if they are of the same kind.

    Raises:
        InputError: none, or one that is no report or has other splits or rows than the first.
    """
    if not paths:
        raise InputError("expected at least one report: write reports=[runs/photos0/report.json]")
    reports = [read_json(path) for path in paths]
    for path, report in zip(paths, reports, strict=True):
        if not isinstance(report, Mapping) or "splits" not in report:
            raise InputError(f"{path} is no report of recipes/evaluate.py: it has no splits")
        if rows_of(report).keys() != rows_of(reports[0]).keys():
            raise InputError(
                f"{path} has other splits or methods than {paths[0]}: average reports of one kind"
            )
    return reports


def rows_of(report: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """(Split, row) → accuracy."""
    splits = report["splits"].items()
    return {(split, row): value for split, rows in splits for row, value in flat_rows(rows).items()}


def leads(cfg: Config, averaged: Mapping[tuple[str, str], Any], splits: Sequence[str]) -> dict[str, Any]:
    """`spread` over seeds of the difference of two rows, by split; nothing where the reports lack one of them."""
    first, second = cfg.lead
    found = {}
    for split in splits:
        if (split, first) in averaged and (split, second) in averaged:
            pairs = zip(averaged[split, first]["seeds"], averaged[split, second]["seeds"], strict=True)
            found[split] = spread([a - b for a, b in pairs])
    return found


def familiarity(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Split → name of the number → `spread` over seeds, where all reports have it."""
    if not all(report.get("familiarity") for report in reports):
        return {}
    return {
        split: {name: spread([report["familiarity"][split][name] for report in reports]) for name in row}
        for split, row in reports[0]["familiarity"].items()
    }


def main(cfg: Config) -> None:
    if len(cfg.lead) != 2:
        raise InputError(
            f"expected two rows for lead, such as 'hyperldm, 1.0' and 'cond_multitask', got {cfg.lead}"
        )
    reports = read_reports(cfg.reports)
    each = [rows_of(report) for report in reports]
    averaged = {key: spread([rows[key] for rows in each]) for key in each[0]}
    splits = list(reports[0]["splits"])
    names = dict.fromkeys(row for _, row in averaged)
    cells = [[name, *(percent(averaged[split, name]) for split in splits)] for name in names]
    lead, known = leads(cfg, averaged, splits), familiarity(reports)
    if lead:
        cells.append(
            [f"{cfg.lead[0]} over {cfg.lead[1]}, points", *(percent(lead[split]) for split in splits)]
        )
    if known:
        cells.append(["AUROC of the familiarity", *(percent(known[split]["auroc"]) for split in splits)])
    text = f"In %, {over_seeds(len(reports))}.\n\n{markdown_table(['', *map(title_of, splits)], cells)}"
    rows = {split: {name: averaged[split, name] for name in names} for split in splits}
    facts = {
        "lead": lead,
        "familiarity": known,
        "tasks": reports[0].get("tasks"),
        "chosen": [report.get("chosen") for report in reports],
    }
    facts |= {"seconds": [report.get("seconds") for report in reports], "versions": versions()}
    write_report(cfg.output, {"splits": rows, "training_seeds": len(reports), **facts}, text)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
