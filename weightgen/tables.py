"""Results of several seeds as tables: mean ± standard deviation, in percent. For recipes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from statistics import fmean, stdev
from typing import Any


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
