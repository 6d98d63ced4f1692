"""One table of few-shot classifiers from what evaluate_episodes.py and evaluate_features.py wrote into a folder.

    python recipes/studies/report_episodes.py folder=results/cifar_fs output=results/cifar_fs/table

Writes `output`.json and .md, a row for each model, sorted by shots and accuracy. Only results of one split and protocol can stand
in one table. 5 seconds.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.errors import InputError
from weightgen.reports.tables import markdown_table, write_report
from weightgen.storage.files import read_json

COLUMNS = ("transductive, disjoint", "support statistics, disjoint")


@dataclass
class Config:
    folder: str = training.MISSING  # with the JSON files
    output: str = training.MISSING  # .json and .md are added


def model_of(settings: dict[str, Any]) -> str:
    """What was trained, in words."""
    kind, channels = settings["hypernet"]["_component_"].rpartition(".")[2], settings["network"]["channels"]
    generated = settings["hypernet"].get("generated")
    written = (
        "all layers" if generated is None else "last layer" if len(generated) == 1 else f"layers {generated}"
    )
    return f"{kind}, {channels} channels" + (f", {written} generated" if kind == "HyperTransformer" else "")


def rows_of(name: str, report: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one file: one of a trained model, or one of each baseline on features."""
    if "training" not in report:  # fixed features: every query for itself
        return [{"model": f"{method} on {Path(report['features']).name}", "shots": report["shots"], "file": name, COLUMNS[1]: found}
                for method, found in report["results"].items()]  # fmt: skip
    settings = report["training"]["settings"]
    row = {
        "model": model_of(settings),
        "shots": report.get("shots", settings["shots"]),  # older reports say it of the training only
        "file": name,
        "episodes_trained": report["episodes_trained"],
    }
    start = {"start": Path(settings["start"]).name} if settings["start"] else {}
    return [row | start | {key: report["results"][key] for key in COLUMNS if key in report["results"]}]


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    trained = f"{row['episodes_trained']:,}" if "episodes_trained" in row else "–"
    trained += f", begun at `{row['start']}`" if "start" in row else ""
    found = [row.get(key) for key in COLUMNS]
    shown = [f"{one['accuracy']:.1f} ± {one['interval']:.1f}" if one else "–" for one in found]
    return [str(row["shots"]), row["model"], f"`{row['file']}`", trained, *shown]


def main(cfg: Config) -> None:
    found = {path.stem: read_json(path) for path in sorted(Path(cfg.folder).glob("*.json"))}
    reports = {name: report for name, report in found.items() if "results" in report and "split" in report}
    if not reports:
        raise InputError(f"{cfg.folder} holds no results of evaluate_episodes.py: run it first")
    facts = [
        {key: report[key] for key in ("protocol", "split", "episodes", "seed")} for report in reports.values()
    ]
    if others := [name for name, one in zip(reports, facts, strict=True) if one != facts[0]]:
        raise InputError(
            f"{others[0]}.json is of another protocol, split, seed or number of episodes than {next(iter(reports))}.json"
        )
    rows = [row for name, report in reports.items() for row in rows_of(name, report)]
    rows.sort(
        key=lambda row: (row["shots"], row.get(COLUMNS[0], row.get(COLUMNS[1], {"accuracy": 0}))["accuracy"])
    )
    one = facts[0]
    head = f"Accuracy in % on {one['episodes']} episodes of {one['split']} classes, protocol `{one['protocol']}`, ± half of the "
    head += "95 % interval over episodes; one training each.\n\n"
    table = markdown_table(["shots", "model", "file", "episodes trained", *COLUMNS], map(cells, rows))
    report = one | {"rows": rows, "command": " ".join(["python", *sys.argv])}
    write_report(cfg.output, report, head + table)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
