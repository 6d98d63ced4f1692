"""The log of a run: lines of JSON. For recipes only."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from weightgen.storage.files import StrPath, written_beside
from weightgen.training.runs import METRICS, Run
from weightgen.training.trackers import report


def log_metrics(run: Run, step: int, metrics: Mapping[str, Tensor | float]) -> None:
    """Append one line to metrics.jsonl, in the main process only; what is not finite becomes null."""
    run.shown |= metrics
    if not run.accelerator.is_main_process:
        return
    values = {name: float(value) for name, value in metrics.items()}
    row = {"step": step} | {name: value if math.isfinite(value) else None for name, value in values.items()}
    with open(run.folder / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    report(run.accelerator, step, values)


def read_metrics(path: StrPath) -> list[dict[str, Any]]:
    """The rows of a log, without a last line that was cut off; none if there is no log yet."""
    if not Path(path).exists():
        return []
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def trim_metrics(path: StrPath, step: int) -> None:
    """Drop the rows after `step`, which a run that goes on from there will write again."""
    if not Path(path).exists():
        return
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    with written_beside(path, overwrite=True) as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
