"""Whether a data set on disk is what was written: the types of its facts, the names and checksums of its files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from weightgen.errors import InputError, check_sizes
from weightgen.storage.columns import arrow_bytes
from weightgen.storage.files import read_object
from weightgen.storage.limits import check_bytes

SPLITS = "dataset_dict.json"  # names the splits for `datasets`
STATE = "state.json"  # names the Arrow files of a split


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each Arrow file below a folder, by its path in there."""
    return {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.glob("*/*.arrow"))}


def check_facts(facts: dict[str, Any], path: Path) -> None:
    """Refuse facts whose splits or checksums are of another type.

    Raises:
        InputError: naming what is wrong.
    """
    splits, files = facts.get("splits"), facts.get("files", {})
    if not isinstance(splits, dict) or not all(isinstance(counts, dict) for counts in splits.values()):
        raise InputError(f"{path} is damaged: expected splits with their counts, got {splits!r:.60}")
    for name, counts in splits.items():
        try:
            check_sizes(0, 2**31, tasks=counts.get("tasks", -1))
        except InputError as error:
            raise InputError(f"{path} is damaged: split {name!r}: {error}") from error
    if not isinstance(files, dict) or not isinstance(facts.get("rules") or {}, dict):
        raise InputError(f"{path} is damaged: expected objects as files and rules")


def check_files(folder: Path, facts: dict[str, Any], types: dict[str, Any]) -> None:
    """Refuse a data set that names files outside of its splits, or whose Arrow files have other checksums than were noted.

    Args:
        folder: of the data set.
        facts: which hold checksums if they were written by this version.
        types: the Arrow type of each column.

    Raises:
        InputError: naming the file; or what is compressed unpacks to more than the limit.
    """
    files: list[Path] = []
    for name in facts["splits"]:
        if Path(name).name != name or name in (".", ".."):
            raise InputError(f"{folder} names the split {name!r}: expected the name of a folder in it")
        files += _check_state(folder / name)
    if "files" in facts and file_digests(folder) != facts["files"]:
        raise InputError(
            f"{folder} is damaged: the checksum of an Arrow file is not the one noted when it was written; prepare it anew"
        )
    if (folder / SPLITS).is_file() and read_object(folder / SPLITS).get("splits") != [*facts["splits"]]:
        raise InputError(f"{folder / SPLITS} names other splits than {folder} describes; prepare it anew")
    unpacked = 0
    for file in files:
        unpacked += arrow_bytes(file, types)
        check_bytes(unpacked, str(folder))


def _check_state(split: Path) -> list[Path]:
    """The Arrow files that a split names and that are there, as often as it names them."""
    if not (split / STATE).is_file():
        return []  # `datasets` says what is missing
    files = read_object(split / STATE).get("_data_files")
    names = (
        [each.get("filename") if isinstance(each, dict) else None for each in files]
        if isinstance(files, list)
        else [None]
    )
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise InputError(f"{split / STATE} names the file {name!r}: expected one in its folder")
    return [split / name for name in names if isinstance(name, str) and (split / name).is_file()]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
