"""The study of memory as a text: the largest memory of each stage by the number of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weightgen.reports.tables import markdown_table


def memory_text(report: Mapping[str, Any]) -> str:
    """The Markdown of what `recipes/benchmarks/memory.py` measured."""
    facts, rows = report["machine"], report["rows"]
    head = (
        "# Memory of the stages that write and read weights\n\n"
        "Largest resident memory of each process in MB, with a few steps on random features; the weights lie on disk in single precision. "
        f"torch {facts['torch']}, one thread of {facts['cpu']}.\n\n"
    )
    recipes = [name for name in rows[0]["stages"] if name != "train_hypernet"]
    columns = ["size", "tasks", "draws", "weights of a network", "all weights, MB", *recipes]
    table = [
        [
            row["size"],
            f"{row['tasks']:,}",
            str(row["draws"]),
            f"{weights_of(row):,}",
            f"{row['weights_mb']:,}",
            *(f"{row['stages'][name]['peak_mb']:,}" for name in recipes),
        ]
        for row in rows
    ]
    return head + markdown_table(columns, table)


def weights_of(row: Mapping[str, Any]) -> int:
    """P of the CLIP-Adapter of a size."""
    return 2 * row["embed_dim"] * row["hidden_dim"] + row["embed_dim"] + row["hidden_dim"]
