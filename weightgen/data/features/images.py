"""Images by name, from a folder as it was unpacked, or from zip files read in place.

A name is *looked up* among the files that were found, never joined to a path: no name can leave the folder.
"""

import os
import threading
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from weightgen.errors import InputError
from weightgen.storage.files import StrPath
from weightgen.storage.images import SUFFIXES, is_stray, member_path, read_image
from weightgen.storage.limits import read_member

__all__ = ["BrokenImage", "ImageStore"]

Found = tuple[
    PurePosixPath, Path | None, str
]  # the path of an image, its zip, and its name in there as it is
DEPTH = 3  # root/images/train2014/name.jpg


class BrokenImage(Exception):
    """An image that is missing or cannot be decoded; the text says why."""


class ImageStore:
    """All images of a folder (three levels deep, zip files at its top included) or of one zip file.

    A name is a file's name with or without its suffix, and may begin with the folders it lies in:
    `COCO_train2014_000000000009`, `a.png` and `train2014/COCO_train2014_000000000009` are names. A file on
    disk goes before one of that name in a zip. What systems and editors leave (`is_stray`) is not looked at.
    Fit for several threads, and for processes made by a fork.

    Args:
        root: the folder or zip file.

    Attributes:
        skipped: the number of files that are no images, or stray.

    Raises:
        InputError: there is no such folder or zip, it is damaged, or no image is in it.
    """

    def __init__(self, root: StrPath) -> None:
        self.root = Path(root).expanduser()
        if not self.root.exists():
            raise InputError(f"no image folder {root}: expected a folder of images, or a zip file")
        self._found: dict[str, list[Found]] = {}
        self.skipped = 0
        for found in _files(self.root):
            path = found[0]
            if path.suffix.lower() in SUFFIXES and not is_stray(path):
                self._found.setdefault(path.stem, []).append(found)
            elif path.suffix.lower() != ".zip":
                self.skipped += 1
        if not self._found:
            raise InputError(
                f"{root} holds no images: expected files named {', '.join('*' + x for x in SUFFIXES)}"
            )
        self._archives: dict[tuple[int, Path], zipfile.ZipFile] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._matches(name))

    def open(self, name: str) -> Image.Image:
        """Read one image, as RGB.

        Raises:
            BrokenImage: it is missing, there are several of that name, or it cannot be decoded.
        """
        matches = self._matches(name)
        if not matches:
            raise BrokenImage("missing")
        if len(matches) > 1:
            raise BrokenImage(f"ambiguous: {matches[0][0]} and {matches[1][0]}")
        try:
            return read_image(self._source(*matches[0]))
        except (InputError, OSError, zipfile.BadZipFile, RuntimeError) as error:
            raise BrokenImage(f"cannot be decoded: {' '.join(str(error).split())}") from error

    def _matches(self, name: str) -> list[Found]:
        wanted = member_path(name)
        suffix = wanted.suffix if wanted.suffix.lower() in SUFFIXES else ""
        candidates = self._found.get(wanted.name.removesuffix(suffix), [])
        found = [match for match in candidates if _fits(match[0], wanted.parts[:-1], suffix)]
        on_disk = [match for match in found if match[1] is None]
        return on_disk or found

    def _source(self, path: PurePosixPath, archive: Path | None, member: str) -> Path | BytesIO:
        if archive is None:
            return self.root / path
        key = (os.getpid(), archive)  # a forked process shares the file's position: open it anew
        with self._lock:
            if key not in self._archives:
                self._archives[key] = zipfile.ZipFile(archive)
        return BytesIO(read_member(self._archives[key], member))


def _fits(path: PurePosixPath, parents: tuple[str, ...], suffix: str) -> bool:
    """Whether a found file lies in those folders and has that suffix, as far as they are given."""
    folders = path.parts[:-1]
    return suffix in ("", path.suffix) and (not parents or folders[-len(parents) :] == parents)


def _files(root: Path) -> Iterator[Found]:
    if root.is_file():
        yield from _zipped(root)
        return
    yield from _on_disk(root, PurePosixPath(), DEPTH)
    for archive in sorted(
        path for path in root.iterdir() if path.suffix.lower() == ".zip" and path.is_file()
    ):
        if not is_stray(archive.name):
            yield from _zipped(archive)


def _on_disk(folder: Path, relative: PurePosixPath, depth: int) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"cannot read the image folder {folder}: {error.strerror}") from error
    for entry in entries:
        path = relative / entry.name
        if path.suffix.lower() in SUFFIXES or not entry.is_dir():
            yield path, None, entry.name
        elif depth > 1:
            yield from _on_disk(folder / entry.name, path, depth - 1)


def _zipped(archive: Path) -> Iterator[Found]:
    try:
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{archive} is not a zip file, or is damaged: {error}") from error
    for name in names:
        if not name.endswith("/"):
            yield member_path(name), archive, name
