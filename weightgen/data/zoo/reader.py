"""Reading a zoo: rows come from disk when they are asked for, so memory does not grow with the number of networks.

Notation: T tasks, R draws, M rows, B rows of a batch, P weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from weightgen.data.zoo.index import DTYPES, TASKS, TYPES, Index, check_shard, digest_of, read_index
from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_json, read_shapes
from weightgen.storage.parts import read_rows, read_type
from weightgen.weights import WeightSpace


class Zoo:
    """Weight vectors (R, T, P) on disk: R draws of T tasks. A task with fewer draws repeats them.

    Args:
        folder: of the zoo.
        index: what `zoo.json` says.
        device: where batches go.

    Attributes:
        numbers: the row of each draw of each task, with shape (R, T).
        counts: the draws that each task has, with shape (T,).

    Raises:
        InputError: the shards do not hold what the index says.
    """

    def __init__(self, folder: Path, index: Index, device: torch.device | str = "cpu") -> None:
        self.folder, self.index, self.device = folder, index, device
        for shard in index.shards:
            check_shard(folder, shard)
            file, size = folder / shard.file, (shard.rows, index.space.size)
            found = read_shapes(file)
            if found.get("weights") != (size, True) or read_type(file, "weights") != TYPES[index.dtype]:
                raise InputError(f"{file} does not hold {size[0]} x {size[1]} weights of type {index.dtype}")
            if any(found.get(name) != ((shard.rows,), False) for name in ("task", "draw")):
                raise InputError(f"{file} does not say the task and the draw of {shard.rows} networks")
        self._starts = torch.tensor([0, *(shard.rows for shard in index.shards)]).cumsum(0)
        self.numbers, self.counts = self._places()

    @classmethod
    def load(cls, folder: StrPath, device: torch.device | str = "cpu") -> Self:
        """Open a zoo.

        Raises:
            InputError: no zoo, or a damaged one.
        """
        return cls(Path(folder), read_index(folder), device)

    def _places(self) -> tuple[Tensor, Tensor]:
        files = [self.folder / shard.file for shard in self.index.shards]
        task, draw = (
            torch.cat([read_rows(file, name) for file in files]).long() for name in ("task", "draw")
        )
        numbers = torch.full((self.index.draws, self.index.tasks), -1)
        if min(task.min(), draw.min()) < 0 or task.max() >= numbers.shape[1] or draw.max() >= len(numbers):
            raise InputError(f"{self.folder} is damaged: its rows are of other tasks than its index says")
        numbers[draw, task] = torch.arange(len(task))
        counts = (numbers >= 0).sum(dim=0)
        if int(counts.sum()) != len(task) or (numbers >= 0).any(dim=0).logical_not().any():
            raise InputError(f"{self.folder} is damaged: a task has no weights, or a draw comes twice")
        if ((numbers >= 0) != (torch.arange(len(numbers))[:, None] < counts)).any():
            raise InputError(f"{self.folder} is damaged: the draws of a task are not numbered from 0")
        repeated = torch.arange(len(numbers))[:, None] % counts
        return numbers.gather(0, repeated), counts

    @property
    def space(self) -> WeightSpace:
        """Names and shapes of the network's parameters."""
        return self.index.space

    @property
    def shape(self) -> tuple[int, int, int]:
        """(R, T, P)."""
        return self.numbers.shape[0], self.numbers.shape[1], self.space.size

    @property
    def layers(self) -> list[int]:
        """The size of each layer: consecutive parts of a weight vector."""
        return [math.prod(shape) for _, shape in self.space.shapes]

    def subset(self, tasks: Sequence[int]) -> Zoo:
        """The same zoo with some of its tasks, which are numbered anew."""
        other = copy.copy(self)
        columns = torch.as_tensor(list(tasks))
        other.numbers, other.counts = (
            self.numbers[: int(self.counts[columns].max()), columns],
            self.counts[columns],
        )
        return other

    def tasks(self) -> list[dict[str, Any]]:
        """Text and split of each task of the whole zoo; empty where they are not known.

        Raises:
            InputError: the file that says it is damaged.
        """
        path = self.folder / TASKS
        if not path.is_file():
            return []
        found = read_json(path)
        whole = isinstance(found, list) and len(found) == self.index.tasks
        if not whole or not all(
            isinstance(task, dict)
            and all(isinstance(task.get(key, ""), str) for key in ("text", "split"))
            and "text" in task
            for task in found
        ):
            raise InputError(f"{path} is damaged: expected a text for each of {self.index.tasks} tasks")
        return found

    def read(self, numbers: Sequence[int] | Tensor) -> Tensor:
        """The rows with these numbers (B,), in single precision, with shape (B, P)."""
        wanted = torch.as_tensor(numbers).cpu()
        found = torch.empty(len(wanted), self.space.size, dtype=DTYPES[self.index.dtype])
        shards = torch.searchsorted(self._starts, wanted, right=True) - 1
        for shard in shards.unique().tolist():
            mine = (shards == shard).nonzero()[:, 0]
            rows = (wanted[mine] - self._starts[shard]).tolist()
            found[mine] = read_rows(self.folder / self.index.shards[shard].file, "weights", rows)
        return found.to(self.device, torch.float32)

    def at(self, draws: Tensor, tasks: Tensor) -> Tensor:
        """The weights (B, P) of draws (B,) of tasks (B,)."""
        return self.read(self.numbers[draws.cpu(), tasks.cpu()])

    def rows(self, tasks: Sequence[int] | None = None, draw: int | None = None) -> ZooRows:
        """All rows, or those of some tasks or of one draw, in the order of draws and then of tasks; none twice."""
        columns = torch.arange(self.shape[1]) if tasks is None else torch.as_tensor(list(tasks))
        real = torch.arange(self.shape[0])[:, None] < self.counts[columns]
        if draw is not None:
            return ZooRows(self, self.numbers[draw, columns])
        return ZooRows(self, self.numbers[:, columns][real])

    def whole(self) -> Tensor:
        """All weights in memory, with shape (R, T, P): for small zoos only."""
        return self.read(self.numbers.flatten()).reshape(self.shape)

    def verify(self) -> None:
        """Compare every file with its digest; reads the whole zoo.

        Raises:
            InputError: naming the first that differs.
        """
        for shard in self.index.shards:
            if digest_of(self.folder / shard.file) != shard.sha256:
                raise InputError(f"{self.folder / shard.file} is damaged: its checksum is wrong")


class ZooRows:
    """Rows (M, P) of a zoo, which are read where they are indexed; statistics take them batch by batch (`weightgen.nn.large`).

    Args:
        zoo: the zoo.
        numbers: of the rows, with shape (M,).
    """

    def __init__(self, zoo: Zoo, numbers: Tensor) -> None:
        self.zoo, self.numbers = zoo, numbers

    @property
    def shape(self) -> torch.Size:
        """(M, P)."""
        return torch.Size((len(self.numbers), self.zoo.space.size))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.zoo.read(self.numbers[rows])
