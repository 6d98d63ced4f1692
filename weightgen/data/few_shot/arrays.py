"""Images of many classes as one memory-mapped array: the format in which every image data set lies on disk.

    FOLDER/images.npy    uint8 (M, H, W, channels), sorted by class
    FOLDER/index.json    classes with names and sizes, splits, source

Notation: M images; H × W pixels; K classes.
"""

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib.format import open_memmap, read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.typing import NDArray
from tqdm import tqdm

from weightgen.errors import InputError, check_sizes
from weightgen.storage.files import StrPath, read_json, write_json, written_beside
from weightgen.storage.limits import check_bytes, check_file

FORMAT = "weightgen few-shot images 1"
PIECE = 2**24  # bytes written at a time: images may be memory-mapped, or decoded as they are asked for


class FewShotArrays:
    """Images of K classes, opened from a folder that `write_few_shot_arrays` made.

    Args:
        folder: where images.npy and index.json are.

    Attributes:
        images: memory-mapped, with shape (M, H, W, channels).
        names: of the classes.
        starts: row of the first image of each class, with shape (K,).
        counts: images of each class, with shape (K,).
        splits: class numbers by name of the split.
        protocol: name of the way in which the classes were split, if the data set has several.

    Raises:
        InputError: something is missing, or the two files do not belong together.
    """

    def __init__(self, folder: StrPath) -> None:
        index = read_json(Path(folder) / "index.json")
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise InputError(
                f"{folder}/index.json does not describe few-shot images: make the folder with a prepare.py"
            )
        try:
            self.images: NDArray[np.uint8] = np.load(
                Path(folder) / "images.npy", mmap_mode="r", allow_pickle=False
            )
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {folder}/images.npy: {error}; prepare it again") from error
        if missing := [key for key in ("names", "counts", "splits") if key not in index]:
            raise InputError(f"{folder}/index.json has no {missing[0]!r}: prepare it again")
        _check_index(index, f"{folder}/index.json")
        self.names: list[str] = index["names"]
        self.counts = np.asarray(index["counts"], dtype=np.int64)
        self.starts = np.cumsum(self.counts) - self.counts
        self.splits: dict[str, list[int]] = index["splits"]
        source = index.get("source")
        self.protocol = str(source["split"]) if isinstance(source, dict) and "split" in source else None
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or len(self.images) != self.counts.sum():
            raise InputError(
                f"{folder}: images.npy, {self.images.dtype} of shape {self.images.shape}, does not hold the "
                f"{int(self.counts.sum())} images of index.json: prepare it again"
            )
        if len(self.names) != len(self.counts):
            raise InputError(
                f"{folder}/index.json has {len(self.names)} names of {len(self.counts)} classes: prepare it again"
            )
        _check_splits(self.splits, len(self.names))

    def classes(self, *splits: str) -> NDArray[np.int64]:
        """The class numbers of one or more splits, in order.

        Raises:
            InputError: there is no such split, none is given, or a class comes twice.
        """
        if not splits:
            raise InputError(f"expected at least one split, of {', '.join(self.splits)}")
        for name in splits:
            if name not in self.splits:
                raise InputError(f"no split {name!r}, only {', '.join(self.splits)}")
            if splits.count(name) > 1:
                raise InputError(f"expected each split once, got {name} twice")
        found = np.concatenate([np.asarray(self.splits[name], dtype=np.int64) for name in splits])
        if len(np.unique(found)) < len(found):
            raise InputError(f"the splits {', '.join(splits)} share classes: give only one of them")
        return found


class ImageRows(Protocol):
    """What of an array of images (M, H, W, channels) is needed to write it: images may be read or decoded as their rows are asked for."""

    ndim: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]: ...


def write_few_shot_arrays(
    folder: StrPath,
    images: NDArray[np.uint8] | ImageRows,
    labels: Sequence[int] | NDArray[np.int64],
    names: Sequence[str],
    splits: Mapping[str, Sequence[int]],
    source: Mapping[str, Any],
) -> None:
    """Write images as a folder that `FewShotArrays` opens; it appears whole or not at all.

    Args:
        folder: to make.
        images: with shape (M, H, W) or (M, H, W, channels), in any order.
        labels: class number of each image.
        names: of the K classes.
        splits: class numbers by name of the split.
        source: where the images come from; anything that JSON can hold.

    Raises:
        InputError: the number of labels or of names does not match, a class has no image, or a split has a class that does not exist.
    """
    if isinstance(images, np.ndarray) and images.ndim == 3:
        images = images[..., None]
    labels = np.asarray(labels, dtype=np.int64)
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(labels):
        raise InputError(
            f"expected uint8 images (M, H, W[, channels]) and M labels, got {images.dtype} {images.shape} "
            f"and {len(labels)} labels"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= len(names)):
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()}, but there are {len(names)} classes"
        )
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all() or not len(names):
        empty = names[int(np.argmin(counts))] if names else "of all"
        raise InputError(f"class {empty!r} has no image: leave it out of the names")
    _check_splits(splits, len(names))
    index = {
        "format": FORMAT,
        "image_shape": list(images.shape[1:]),
        "names": list(names),
        "counts": counts.tolist(),
        "splits": {name: [int(k) for k in members] for name, members in splits.items()},
        "source": dict(source),
    }
    order = np.argsort(labels, kind="stable")
    rows = max(1, PIECE // max(1, math.prod(images.shape[1:])))
    with written_beside(folder) as partial:
        partial.mkdir()
        stored = open_memmap(partial / "images.npy", mode="w+", dtype=np.uint8, shape=images.shape)
        for i in tqdm(range(0, len(order), rows), desc="writing images", disable=len(order) <= rows):
            stored[i : i + rows] = images[order[i : i + rows]]
        stored.flush()
        write_json(partial / "index.json", index)


def _check_index(index: Mapping[str, Any], path: str) -> None:
    """Refuse entries of another type."""
    names, counts, splits = index["names"], index["counts"], index["splits"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} needs a list of texts as names: prepare it again")
    if not isinstance(counts, list) or not isinstance(splits, dict):
        raise InputError(f"{path} needs a list as counts and an object as splits: prepare it again")
    for count in counts:
        if isinstance(count, list):
            raise InputError(f"{path} needs numbers as counts: prepare it again")
        check_sizes(1, 2**40, **{f"the count of a class in {path}": count})
    for name, members in splits.items():
        if not isinstance(members, list):
            raise InputError(f"{path} needs a list of classes as split {name!r}: prepare it again")
        if any(isinstance(member, list) for member in members):
            raise InputError(f"{path} needs numbers of classes as split {name!r}: prepare it again")
        for member in members:
            check_sizes(0, 2**40, **{f"a class of split {name!r}": member})


def _check_splits(splits: Mapping[str, Sequence[int]], classes: int) -> None:
    for split, members in splits.items():
        if len(members) and not 0 <= min(members) <= max(members) < classes:
            raise InputError(f"split {split!r} names classes outside 0 to {classes - 1}")
        if len(set(members)) < len(members):
            raise InputError(f"split {split!r} names a class twice")


def _check_sizes(archive: zipfile.ZipFile, path: StrPath) -> None:
    """Refuse arrays that take more memory than the limit, or more than the file holds, before they are read."""
    check_bytes(sum(member.file_size for member in archive.infolist()), f"{path}, unpacked,")
    for member in archive.infolist():
        with archive.open(member) as file:
            version = read_magic(file)
            shape, _, dtype = (read_array_header_1_0 if version == (1, 0) else read_array_header_2_0)(file)
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize > member.file_size:
            raise ValueError(f"{member.filename} holds less than its shape {shape} says")


def read_npz(path: StrPath) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file, none of which may be a pickle.

    Raises:
        InputError: the file is missing, damaged, or holds Python objects.
    """
    check_file(path, "an .npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        AttributeError,
        RuntimeError,
        NotImplementedError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(f"cannot read {path} as an .npz file of plain arrays: {error}") from error
