"""The scores of several training seeds, as `recipes/studies/score_methods.py` writes them for each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weightgen.reports.tables import spread, versions
from weightgen.storage.files import StrPath, read_json


class SeedScores:
    """Scores of every method of several seeds.

    Args:
        runs: the folder that `recipes/reproduce.py` fills: seed0/scores.json, seconds0.json and so on.
        seeds: how many.

    Attributes:
        scores: the report of each seed.
        splits: the held-out splits.
        facts: what every table says besides: seeds, seconds, versions, and the numbers to compare with.

    Raises:
        InputError: a file is missing or damaged.
    """

    def __init__(self, runs: StrPath, seeds: int) -> None:
        self.scores = [read_json(Path(runs) / f"seed{seed}/scores.json") for seed in range(seeds)]
        clocks = [read_json(Path(runs) / f"seconds{seed}.json") for seed in range(seeds)]
        self.splits = list(self.scores[0]["rows"]["chance"])
        compare = {"chance": "chance", "floor": "multitask", "ceiling": "few_shot_maml"}
        self.facts = {
            "seeds": seeds,
            "seconds": round(sum(sum(clock.values()) for clock in clocks)),
            "versions": versions(),
            **{name: self.row(row) for name, row in compare.items()},
        }

    def __len__(self) -> int:
        return len(self.scores)

    def spreads(self, part: str, name: str, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """`spread` over the seeds of each key of the entry `name` of a part of the report."""
        return {key: spread([score[part][name][key] for score in self.scores]) for key in keys}

    def row(self, name: str) -> dict[str, dict[str, Any]]:
        """Accuracy of one method by split."""
        return self.spreads("rows", name, self.splits)

    def chosen(self) -> dict[str, list[dict[str, Any]]]:
        """What validation tasks chose for each method, of every seed: "chosen", and "tried" (setting → accuracy on validation tasks)."""
        rows = self.scores[0]["rows"]
        return {
            name: [{key: score["rows"][name][key] for key in ("chosen", "tried")} for score in self.scores]
            for name in rows
            if "tried" in rows[name]
        }
