"""The files of a feature store: what its index and its shards must hold.

Notation: N names, E embedding.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from weightgen.errors import InputError, check_sizes
from weightgen.storage.files import read_metadata, read_shapes, read_tensors

FORMAT = "weightgen-features-1"
KINDS = ("images", "questions", "answers")


def check_index(index: dict[str, Any], path: Path) -> None:
    """Refuse an index with an entry that is missing or of another type, or with a shard that is not beside it.

    Raises:
        InputError: naming the entry.
    """
    shards, failed, fewest = index.get("shards"), index.get("failed"), index.get("fewest", {})
    if not isinstance(shards, dict) or not all(_are_files(shards.get(kind)) for kind in KINDS):
        raise InputError(f"{path}: expected shards, with a list of file names for each of {', '.join(KINDS)}")
    if not isinstance(failed, dict):
        raise InputError(
            f"{path}: expected failed, the images that could not be read with the reasons, got {failed!r:.60}"
        )
    if not isinstance(fewest, dict) or not fewest.keys() <= {"examples", "answers"}:
        raise InputError(f"{path}: expected fewest, with numbers of examples and answers, got {fewest!r:.60}")
    check_sizes(0, 2**31, **fewest)


def _are_files(names: Any) -> bool:
    """Whether this is a list of names of files, none of which leads elsewhere."""
    if not isinstance(names, list) or not names:
        return False
    return all(isinstance(name, str) and name and Path(name).name == name for name in names)


def read_shard(path: Path) -> tuple[list[str], Tensor]:
    """The N names of a shard, and their embeddings (N, E), memory-mapped.

    Raises:
        InputError: it is no shard, or damaged.
    """
    names, _ = shard_names(path)
    shape, floating = read_shapes(path).get("embeds", ((), False))
    if not floating or len(shape) != 2 or shape[0] != len(names) or not shape[1]:
        raise InputError(
            f"{path} must hold embeds, floating-point numbers of shape ({len(names)}, E), got shape {shape}: run recipes/embed.py again"
        )
    return names, read_tensors(path)["embeds"]


def shard_names(path: Path) -> tuple[list[str], dict[str, str]]:
    """The names of a shard's rows, and those that could not be read with the reasons.

    Raises:
        InputError: it is no shard, or damaged.
    """
    try:
        shard = json.loads(read_metadata(path)["shard"])
        names, failed = shard["names"], shard["failed"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a shard of features: run recipes/embed.py again") from error
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or not isinstance(failed, dict)
    ):
        raise InputError(f"{path} is damaged: it does not name its rows: run recipes/embed.py again")
    if len(set(names)) < len(names):
        raise InputError(f"{path} is damaged: it names a row twice: run recipes/embed.py again")
    return names, failed
