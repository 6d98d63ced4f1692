"""Results as tables: accuracies of several training seeds as mean ± standard deviation, and the one way to write a report."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from torch import Tensor

from weightgen.storage.files import StrPath, write_json, written_beside


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (None for one seed) and the value of every seed."""
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None, "seeds": list(values)}


def percent(value: Mapping[str, Any] | float) -> str:
    """What `spread` returns as "57.4 ± 0.8"; a single number as "57.4"."""
    if not isinstance(value, Mapping):
        return f"{100 * value:.1f}"
    text = f"{100 * value['mean']:.1f}"
    return text if value["std"] is None else f"{text} ± {100 * value['std']:.1f}"


def interval(accuracies: Tensor) -> dict[str, float]:
    """Mean, and half the width of its 95 % interval, of accuracies (N,) in percent."""
    half = 1.96 * accuracies.std().item() / math.sqrt(len(accuracies))
    return {"accuracy": round(100 * accuracies.mean().item(), 2), "interval": round(100 * half, 2)}


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the rows have as many cells as there are columns."""
    head, *body = [f"| {' | '.join(line)} |\n" for line in (columns, *rows)]
    return "".join([head, "|---" * len(columns) + "|\n", *body])


def title_of(split: str) -> str:
    """What a split is called in a table: "novel_composition" becomes "novel composition"."""
    return split.replace("_", " ")


def flat_rows(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a nested report on one level: {"hyperldm": {"1.5": x}} becomes {"hyperldm, 1.5": x}."""
    rows: dict[str, float] = {}
    for name, value in tree.items():
        rows |= (
            flat_rows(value, f"{prefix}{name}, ")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return rows


def versions() -> dict[str, str]:
    """What the results were made with."""
    packages = ("weightgen", "torch", "diffusers", "open_clip_torch", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def over_seeds(runs: int) -> str:
    """What the numbers of so many runs are."""
    return f"mean ± s.d. over {runs} training seeds" if runs > 1 else "one training seed"


def shots_key(shots: int | None) -> str:
    """The key of a number of examples per class in a report; None stands for all examples."""
    return "all" if shots is None else str(shots)


def collect_seed(
    seen: dict[str, dict[str, list[dict[str, float]]]], rows: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> None:
    """Add the accuracies of one more seed, split → row → `shots_key` → number, to what `spread_by_shots` takes."""
    for split, values in rows.items():
        for row, numbers in values.items():
            seen.setdefault(split, {}).setdefault(row, []).append(dict(numbers))


def spread_by_shots(
    seen: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Collect the seeds of each number.

    Args:
        seen: split → row → one entry per seed → `shots_key` → accuracy.

    Returns:
        split → row → `shots_key` → `spread`.
    """
    return {
        split: {
            row: {key: spread([seed[key] for seed in seeds]) for key in seeds[0]}
            for row, seeds in rows.items()
        }
        for split, rows in seen.items()
    }


def tables_by_shots(accuracy: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """What `spread_by_shots` returns as one Markdown table per split."""
    parts = []
    for split, rows in accuracy.items():
        keys = list(next(iter(rows.values())))
        columns = ["", *("all examples" if key == "all" else f"{key} per class" for key in keys)]
        cells = [[name, *(percent(value[key]) for key in keys)] for name, value in rows.items()]
        parts.append(f"\nTasks: {title_of(split)}\n\n{markdown_table(columns, cells)}")
    return "".join(parts)


def write_report(output: StrPath, report: Mapping[str, Any], text: str) -> None:
    """Write `output`.json for machines and `output`.md for people, and print the latter."""
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path.with_name(f"{path.name}.json"), report)
    with written_beside(path.with_name(f"{path.name}.md"), overwrite=True) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text, end="", flush=True)
