"""The index of a zoo: what its folder holds.

    ZOO/zoo.json                  the index: network, tasks, draws, type of the numbers, and name, size and digest of each shard
    ZOO/weights-00000.safetensors `weights` (M, P), and of each row its `task` (M,) and its `draw` (M,)
    ZOO/tasks.json                of each task its text and its split, where these are known

Notation: T tasks, R draws, M rows, P weights.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, kind_of, read_object, write_json
from weightgen.storage.limits import check_bytes
from weightgen.weights import WeightSpace

INDEX, TASKS = "zoo.json", "tasks.json"
FORMAT = {"format": "weightgen-zoo", "version": 1}
DTYPES = {"float32": torch.float32, "float16": torch.float16}
TYPES = {"float32": "F32", "float16": "F16"}  # in the header of a shard


@dataclass
class Shard:
    """One file of a zoo: its name, rows, size in bytes, and SHA-256."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass
class Index:
    """What `zoo.json` holds.

    Attributes:
        space: names and shapes of the network's parameters.
        tasks: T.
        draws: R, the most of any task.
        dtype: "float32" or "float16".
        shards: the files.
        facts: how the weights were made.
    """

    space: WeightSpace
    tasks: int
    draws: int
    dtype: str
    shards: list[Shard]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """M, the number of weight vectors."""
        return sum(shard.rows for shard in self.shards)

    def write(self, folder: Path) -> None:
        """Write `zoo.json`; a zoo without it is unfinished."""
        given = {"space": self.space.to_json(), "tasks": self.tasks, "draws": self.draws, "rows": self.rows}
        shards = [asdict(shard) for shard in self.shards]
        write_json(
            folder / INDEX, {**FORMAT, **given, "dtype": self.dtype, "shards": shards, "facts": self.facts}
        )


def read_index(folder: StrPath) -> Index:
    """Read `zoo.json`, and compare the sizes of the shards with it.

    Raises:
        InputError: no zoo, one of another version, or a damaged one.
    """
    path = Path(folder) / INDEX
    if kind_of(path) is None:
        raise InputError(f"{folder} is no zoo of weights: it has no {INDEX}")
    record = read_object(path)
    if any(record.get(key) != value for key, value in FORMAT.items()):
        raise InputError(f"{path} is not of format {FORMAT['format']} version {FORMAT['version']}")
    try:
        shards = [
            Shard(str(s["file"]), _whole(s["rows"]), _whole(s["bytes"]), str(s["sha256"]))
            for s in record["shards"]
        ]
        found = Index(
            WeightSpace.from_json(record["space"]),
            _whole(record["tasks"]),
            _whole(record["draws"]),
            str(record["dtype"]),
            shards,
            dict(record["facts"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {str(error):.100}") from error
    if not 0 < max(found.tasks, found.draws) <= found.rows:
        raise InputError(
            f"{path} is damaged: it has {found.rows} networks, {found.tasks} tasks and {found.draws} draws"
        )
    check_bytes(8 * found.tasks * found.draws, f"the table of tasks and draws of {folder}")
    if found.dtype not in DTYPES:
        raise InputError(f"{path} has numbers of type {found.dtype!r}: expected {' or '.join(DTYPES)}")
    for shard in shards:
        check_shard(Path(folder), shard)
    return found


def _whole(value: Any) -> int:
    """A number of things.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"expected a whole number, got {value!r:.40}")
    return value


def check_shard(folder: Path, shard: Shard) -> None:
    """Refuse a shard that is missing or of another size than the index says.

    Raises:
        InputError: naming it.
    """
    file = folder / shard.file
    if Path(shard.file).name != shard.file or kind_of(file) != "file" or file.stat().st_size != shard.bytes:
        raise InputError(f"{file} is missing or not of the size that {INDEX} says: the zoo is damaged")


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
