"""Writing a zoo: weight vectors are appended as they come, and go to disk shard by shard.

Notation: T tasks, R draws, B rows, M rows of a shard, S shards, P weights.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weightgen.data.zoo.index import DTYPES, TASKS, Index, Shard, digest_of
from weightgen.errors import InputError
from weightgen.storage.files import StrPath, write_json, write_tensors, written_beside
from weightgen.storage.parts import read_rows
from weightgen.weights import WeightSpace

SHARD = 2**27
"""Bytes of weights in a shard; what the writer holds in memory is at most one shard and one batch."""


class ZooWriter:
    """Write weight vectors into shards, whose bytes depend on the rows and their order alone.

    `state_dict` holds the rows of the shard that is not full yet and the digests of those that are, so that a killed run goes on from
    its checkpoint with the same bytes.

    Args:
        folder: where the shards go.
        space: of the network.
        dtype: "float32" or "float16".
        shard_bytes: by default `SHARD`.

    Raises:
        InputError: another type of numbers.
    """

    def __init__(
        self, folder: StrPath, space: WeightSpace, dtype: str = "float32", shard_bytes: int | None = None
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"expected dtype to be {' or '.join(DTYPES)}, got {dtype!r}")
        self.folder, self.space, self.dtype = Path(folder), space, dtype
        self.row_bytes = space.size * DTYPES[dtype].itemsize
        self.shard_rows = max(1, (shard_bytes or SHARD) // max(1, self.row_bytes))
        self.shards: list[Shard] = []
        self._weights: list[Tensor] = []
        self._places: list[Tensor] = []  # (B, 2): task and draw

    @property
    def rows(self) -> int:
        """Rows appended so far."""
        return sum(shard.rows for shard in self.shards) + sum(map(len, self._places))

    def check_room(self, rows: int) -> None:
        """Refuse to begin where so many rows will not fit on the disk.

        Raises:
            InputError: naming what is needed and what is free.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        present = sum(file.stat().st_size for file in self.folder.glob("weights-*.safetensors"))
        needed, free = rows * self.row_bytes - present, shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"{self.folder} needs {needed / 1e9:.1f} GB for {rows:,} weight vectors, and {free / 1e9:.1f} GB are free: make room, "
                "or write half precision (float16)"
            )

    def append(self, weights: Tensor, tasks: Sequence[int], draws: Sequence[int]) -> None:
        """Append rows.

        Args:
            weights: with shape (B, P).
            tasks: of each row, from 0.
            draws: of each row, from 0; each pair of task and draw comes once.

        Raises:
            InputError: a wrong shape, or numbers that are not finite in the type of the zoo.
        """
        if weights.shape != (len(tasks), self.space.size) or len(tasks) != len(draws):
            raise InputError(
                f"expected weights of shape ({len(tasks)}, {self.space.size}), got {tuple(weights.shape)}"
            )
        kept = weights.detach().to("cpu", DTYPES[self.dtype])
        if not kept.isfinite().all():
            raise InputError(_not_finite(weights, self.dtype, tasks))
        places = torch.tensor([list(tasks), list(draws)], dtype=torch.int32).T
        while len(kept):
            room = self.shard_rows - sum(map(len, self._places))
            self._weights.append(kept[:room].clone())
            self._places.append(places[:room])
            kept, places = kept[room:], places[room:]
            if sum(map(len, self._places)) == self.shard_rows:
                self.shards.append(self._write(self.folder))
                self._weights, self._places = [], []

    def _write(self, folder: Path) -> Shard:
        """Write the rows that are held as the next shard."""
        weights, places = self._held()
        path = folder / f"weights-{len(self.shards):05d}.safetensors"
        tensors = {
            "weights": weights,
            "task": places[:, 0].contiguous(),
            "draw": places[:, 1].contiguous(),
        }
        write_tensors(path, tensors)
        return Shard(path.name, len(places), path.stat().st_size, digest_of(path))

    def _held(self) -> tuple[Tensor, Tensor]:
        none = torch.empty(0, self.space.size, dtype=DTYPES[self.dtype])
        return torch.cat([none, *self._weights]), torch.cat(
            [torch.empty(0, 2, dtype=torch.int32), *self._places]
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The rows that no shard has yet, and the digests (S, 32) of the shards."""
        weights, places = self._held()
        digests = [list(bytes.fromhex(shard.sha256)) for shard in self.shards]
        found = torch.tensor(digests, dtype=torch.uint8).reshape(-1, 32)
        return {"weights": weights, "places": places, "digests": found}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where a state was taken; later shards are written anew.

        Raises:
            InputError: a shard is missing or damaged.
        """
        shards = []
        for number, digest in enumerate(state["digests"].tolist()):
            path = self.folder / f"weights-{number:05d}.safetensors"
            if not path.is_file() or digest_of(path) != bytes(digest).hex():
                raise InputError(f"{path} is missing or damaged")
            shards.append(Shard(path.name, self.shard_rows, path.stat().st_size, bytes(digest).hex()))
        self.shards = shards
        self._weights, self._places = [state["weights"]], [state["places"]]

    def finish(
        self,
        folder: StrPath,
        tasks: Iterable[Mapping[str, Any]] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Make `folder` a zoo of all rows. The shards stay where they are, too: the file system gives them a second name.

        Args:
            folder: an existing folder.
            tasks: text and split of each task.
            facts: how the weights were made.

        Raises:
            InputError: there are no rows, or a pair of task and draw is missing.
        """
        folder = Path(folder)
        if not self.rows:
            raise InputError("a zoo needs at least one weight vector")
        for shard in self.shards:
            if folder != self.folder:
                _same_file(self.folder / shard.file, folder / shard.file)
        last = [self._write(folder)] if sum(map(len, self._places)) else []
        if tasks is not None:
            write_json(folder / TASKS, [dict(task) for task in tasks])
        shards = [*self.shards, *last]
        most = [_largest(folder / shard.file) for shard in shards]
        count, draws = (max(column) + 1 for column in zip(*most, strict=True))
        Index(self.space, count, draws, self.dtype, shards, dict(facts or {})).write(folder)


def save_zoo(
    folder: StrPath,
    space: WeightSpace,
    weights: Tensor,
    dtype: str = "float32",
    tasks: Iterable[Mapping[str, Any]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write weights (R, T, P) of R draws of T tasks as a zoo, which appears whole or not at all."""
    with written_beside(folder, overwrite) as partial:
        partial.mkdir()
        writer = ZooWriter(partial, space, dtype)
        for draw, rows in enumerate(weights):
            writer.append(rows, range(len(rows)), [draw] * len(rows))
        writer.finish(partial, tasks)


def _not_finite(weights: Tensor, dtype: str, tasks: Sequence[int]) -> str:
    bad = [task for task, row in zip(tasks, weights, strict=True) if not row.isfinite().all()]
    if bad:
        return f"the weights of task {bad[0]} hold NaN or infinite numbers"
    return f"the weights are too large for {dtype}: write float32"


def _same_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _largest(path: Path) -> tuple[int, int]:
    """The largest task and draw of a shard."""
    return tuple(int(read_rows(path, name).max()) for name in ("task", "draw"))  # type: ignore[return-value]
