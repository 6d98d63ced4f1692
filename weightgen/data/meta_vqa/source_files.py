"""Source files of a data set: found plain, gzipped or inside a zip, read whole, named by their checksum."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from weightgen.errors import InputError
from weightgen.storage.limits import check_bytes, check_file

__all__ = ["SourceFile", "find_source", "read_source", "without_mark"]

CHUNK = 1 << 22  # bytes: a progress bar moves a few times a second, and the reading is not slowed down
# What gzip, zipfile and the file system make of damaged, encrypted or absent files.
BROKEN = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zlib.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class SourceFile:
    """Where the bytes of a source are: a file, or a member of a zip."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)


def find_source(folders: Sequence[Path], name: str) -> SourceFile | None:
    """Look in each folder for `name` and `name`.gz, then for a zip that holds `name` at any depth."""
    for folder in folders:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return SourceFile(path)
    broken: InputError | None = None
    for path in (path for folder in folders for path in sorted(folder.glob("*.zip")) if path.is_file()):
        try:
            members = _members(path)
        except InputError as error:  # a zip that holds something else may be broken
            broken = error
            continue
        for member in members:
            if member.rsplit("/", 1)[-1] == name:
                return SourceFile(path, member)
    if broken:
        raise InputError(f"found no {name}, and {broken}")
    return None


def read_source(source: SourceFile, progress: bool = False) -> tuple[bytearray, dict[str, str | int]]:
    """Read the unpacked bytes, and describe them for a dataset card.

    Args:
        source: what to read.
        progress: whether to show a bar.

    Returns:
        the bytes, and {"name", "bytes", "sha256"} of what was read, after unpacking: the official file has
        the same checksum whether it comes plain, gzipped or in its zip.

    Raises:
        InputError: if the file is missing, unreadable or broken.
    """
    check_file(source.path, "a file with rows")
    digest, data = hashlib.sha256(), bytearray()
    name = (source.member or source.path.name).rsplit("/", 1)[-1].removesuffix(".gz")
    try:
        with (
            _opened(source) as (file, size),
            tqdm(desc=name, total=size, unit="B", unit_scale=True, disable=not progress, leave=False) as bar,
        ):
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                check_bytes(len(data) + len(chunk), f"{source}, unpacked,")
                data += chunk  # grows in place: joining chunks would need the memory twice
                bar.update(len(chunk))
    except InputError:
        raise
    except BROKEN as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{source}: cannot be read, it is missing, broken or cut off: {reason}") from error
    return data, {"name": name, "bytes": len(data), "sha256": digest.hexdigest()}


def without_mark(data: bytes | bytearray) -> memoryview:
    """The bytes of a UTF-8 text without the byte-order mark that Windows puts first."""
    return memoryview(data)[len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0 :]


@contextmanager
def _opened(source: SourceFile) -> Iterator[tuple[IO[bytes] | gzip.GzipFile, int | None]]:
    """The unpacked file, and its size where that is known beforehand."""
    if source.member is not None:
        with zipfile.ZipFile(source.path) as archive, archive.open(source.member) as member:
            yield member, archive.getinfo(source.member).file_size
    elif source.path.suffix == ".gz":
        with gzip.open(source.path, "rb") as unpacked:
            yield unpacked, None
    else:
        with source.path.open("rb") as file:
            yield file, source.path.stat().st_size


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except BROKEN as error:
        raise InputError(f"{path}: cannot be read as a zip, it is broken or cut off: {error}") from error
