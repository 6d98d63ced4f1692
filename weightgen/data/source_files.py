"""Source files of a data set: found plain, gzipped or inside a zip, read whole, named by their checksum."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tqdm import tqdm

from weightgen.errors import InputError

__all__ = ["SourceFile", "find_source", "read_source"]

CHUNK = 1 << 22  # bytes: a progress bar moves a few times a second, and the reading is not slowed down


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
    for folder in folders:
        for path in sorted(folder.glob("*.zip")):
            for member in _members(path):
                if member.rsplit("/", 1)[-1] == name:
                    return SourceFile(path, member)
    return None


def read_source(source: SourceFile, progress: bool = False) -> tuple[bytes, dict[str, str | int]]:
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
    digest, chunks = hashlib.sha256(), []
    name = (source.member or source.path.name).rsplit("/", 1)[-1].removesuffix(".gz")
    try:
        with (
            _opened(source) as file,
            tqdm(desc=f"reading {name}", unit="B", unit_scale=True, disable=not progress, leave=False) as bar,
        ):
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                chunks.append(chunk)
                bar.update(len(chunk))
    except (
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zlib.error,
        zipfile.BadZipFile,
        ValueError,
    ) as error:
        raise InputError(
            f"{source}: cannot be read, it is broken or cut off ({error or type(error).__name__})"
        ) from error
    data = b"".join(chunks)
    return data, {"name": name, "bytes": len(data), "sha256": digest.hexdigest()}


def _opened(source: SourceFile) -> IO[bytes] | gzip.GzipFile:
    if source.member is not None:
        return zipfile.ZipFile(source.path).open(source.member)
    if source.path.suffix == ".gz":
        return gzip.open(source.path, "rb")
    return source.path.open("rb")


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a zip, it is broken or cut off ({error})") from error
