"""Results of several seeds as tables: mean ± standard deviation, in percent. For recipes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import fmean, stdev
from typing import Any

from weightgen.storage.files import StrPath, write_json, written_beside

HELD_OUT = {
    "test": "random questions",
    "novel_composition": "novel compositions",
}  # split → what it is called


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation over seeds; the latter is None for one seed."""
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None, "seeds": list(values)}


def percent(value: Mapping[str, Any]) -> str:
    """What `spread` gives, as "57.4 ± 0.8"."""
    text = f"{100 * value['mean']:.1f}"
    return text if value["std"] is None else f"{text} ± {100 * value['std']:.1f}"


def table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table; the first column names the rows."""
    lines = [["", *columns], ["---"] * (len(columns) + 1), *([name, *cells] for name, cells in rows.items())]
    return "".join(
        f"| {' | '.join(line)} |\n" if line[0] != "---" else "|---" * len(line) + "|\n" for line in lines
    )


def versions() -> dict[str, str]:
    """What the results were made with."""
    return {name: version(name) for name in ("weightgen", "torch", "diffusers")}


def over_seeds(runs: int) -> str:
    """What the figures of so many runs are."""
    return f"mean ± s.d. over {runs} training seeds" if runs > 1 else "one training seed"


def spread_by_shots(
    seen: Mapping[str, Mapping[str, Sequence[Mapping[int, float]]]], shots: Sequence[int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Accuracy of every seed, split → row → seed → number of examples, as split → row → number of examples → `spread`."""
    return {
        split: {
            row: {str(count): spread([seed[count] for seed in seeds]) for count in shots}
            for row, seeds in rows.items()
        }
        for split, rows in seen.items()
    }


def tables_by_shots(accuracy: Mapping[str, Mapping[str, Mapping[str, Any]]], shots: Sequence[int]) -> str:
    """What `spread_by_shots` gives, as one Markdown table for each split; 0 examples of each class stand for all."""
    columns = [f"{count} per class" if count else "all examples" for count in shots]
    parts = []
    for split, rows in accuracy.items():
        cells = {name: [percent(value[str(count)]) for count in shots] for name, value in rows.items()}
        parts.append(f"\nTasks: {HELD_OUT[split]}\n\n{table(columns, cells)}")
    return "".join(parts)


def write_report(output: StrPath, report: Mapping[str, Any], text: str) -> None:
    """Write `output`.json for machines and `output`.md for people, and show the latter."""
    write_json(f"{output}.json", report)
    with written_beside(f"{output}.md", overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)
