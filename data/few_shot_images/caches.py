"""miniImageNet and tieredImageNet in the pickled caches in which they are passed around, as few-shot arrays.

The layouts are those of Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", 2018, and for tieredImageNet also that of
Lee et al., "Meta-Learning with Differentiable Convex Optimization", 2019, whose labels lie under another key.

Notation: M images; H × W pixels; K classes.
"""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from plain_pickle import read_plain_pickle

from weightgen.data.few_shot.arrays import read_npz, write_few_shot_arrays
from weightgen.errors import InputError
from weightgen.storage.files import StrPath
from weightgen.storage.images import read_image

SPLITS = {"train": "train", "validation": "val", "test": "test"}  # name here, and in the files


def prepare_from_mini_imagenet(folder: StrPath, output: StrPath) -> None:
    """Write miniImageNet's caches as few-shot images; one of them is in memory at a time.

    Args:
        folder: holds mini-imagenet-cache-train.pkl, -val.pkl and -test.pkl, each a dictionary of `image_data`, uint8 (M, H, W, 3), and
            `class_dict`, from the name of a class to its rows.
        output: folder to make.

    Raises:
        InputError: a file is missing, damaged or not plain, its classes do not match its images, or a class is in two splits.
    """
    paths = [Path(folder) / f"mini-imagenet-cache-{name}.pkl" for name in SPLITS.values()]
    _refuse_missing(paths)
    labels = [_mini_labels(path) for path in paths]
    for name, times in Counter(name for _, names in labels for name in names).items():
        if times > 1:
            raise InputError(f"class {name!r} is in two caches of {folder}: classes may be in one split only")
    _write(output, [partial(_mini_images, path) for path in paths], labels, "miniImageNet")


def prepare_from_tiered_imagenet(folder: StrPath, output: StrPath) -> None:
    """Write tieredImageNet's caches as few-shot images, in RGB; the images of one split are in memory at a time.

    Args:
        folder: holds for each NAME of train, val and test NAME_labels.pkl and the images: NAME_images_png.pkl, a list of PNG files as
            uint8 arrays, or NAME_images.npz, whose `images`, uint8 (M, H, W, 3), are BGR, as OpenCV reads them. The labels are
            `label_specific` (M), which number the names `label_specific_str` (K), or `labels` (M) without names.
        output: folder to make.

    Raises:
        InputError: a file is missing, damaged or not plain, or classes, labels and images do not match in number.
    """
    tables = [Path(folder) / f"{name}_labels.pkl" for name in SPLITS.values()]
    files = [Path(folder) / f"{name}_images_png.pkl" for name in SPLITS.values()]
    files = [file if file.is_file() else file.with_name(f"{file.stem[:-4]}.npz") for file in files]
    _refuse_missing([*tables, *files])
    labels = [_tiered_labels(path) for path in tables]
    readers = [partial(_PngFiles if file.suffix == ".pkl" else _bgr_images, file) for file in files]
    _write(output, readers, labels, "tieredImageNet")


class _Images(Protocol):
    """The images of one split."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]: ...


Labels = tuple[
    NDArray[np.int64], list[str]
]  # class number of each image of a split, and the names of the classes


def _write(
    output: StrPath, readers: Sequence[Callable[[], _Images]], labels: Sequence[Labels], dataset: str
) -> None:
    names: list[str] = []
    numbers, members = [], {}
    for split, (own, known) in zip(SPLITS, labels, strict=True):
        if not len(own):
            raise InputError(f"split {split!r} of {dataset} has no images")
        numbers.append(own + len(names))
        members[split] = list(range(len(names), len(names) + len(known)))
        names += known
    images = _Joined(readers, [len(own) for own, _ in labels])
    source = {"dataset": dataset, "form": "caches"}
    write_few_shot_arrays(output, images, np.concatenate(numbers), names, members, source)


class _Joined:
    """The images of all splits, of which only the last one asked for is in memory."""

    ndim, dtype = 4, np.dtype(np.uint8)

    def __init__(self, readers: Sequence[Callable[[], _Images]], counts: Sequence[int]) -> None:
        self._readers, self._counts = readers, counts
        self._ends = np.cumsum(counts)
        self._open(0)
        self.shape = (int(self._ends[-1]), *self._images[np.array([0])].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        parts = np.searchsorted(self._ends, rows, side="right")
        for part in np.unique(parts):
            if part != self._at:
                self._open(int(part))
            images = self._images[rows[parts == part] - (self._ends[part] - self._counts[part])]
            if images.shape[1:] != self.shape[1:]:
                raise InputError(
                    f"images of one size were expected, got {images.shape[1:]} and {self.shape[1:]}"
                )
            found[parts == part] = images
        return found

    def _open(self, part: int) -> None:
        self._images: _Images | Any = None  # let go of the split before
        self._images, self._at = self._readers[part](), part
        if len(self._images) != self._counts[part]:
            raise InputError(
                f"split {list(SPLITS)[part]!r} has {len(self._images)} images and {self._counts[part]} labels"
            )


class _PngFiles:
    """A list of PNG files, decoded as they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self._files = path, read_plain_pickle(path)
        if not isinstance(self._files, list):
            raise InputError(f"{path} holds a {type(self._files).__name__}: expected a list of PNG files")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = [self._decoded(self._files[row]) for row in rows]
        if len({image.shape for image in images}) > 1:
            raise InputError(f"{self.path} holds images of two sizes")
        return np.stack(images)

    def _decoded(self, file: Any) -> NDArray[np.uint8]:
        """One image; OpenCV gives its file as an array (M,) or (M, 1)."""
        if isinstance(file, np.ndarray) and file.dtype == np.uint8:
            file = file.tobytes()
        if not isinstance(file, bytes):
            raise InputError(f"{self.path} holds a {type(file).__name__}: expected PNG files as uint8 arrays")
        try:
            return np.asarray(read_image(io.BytesIO(file)), dtype=np.uint8)
        except InputError as error:
            raise InputError(f"{self.path} holds an unreadable image: {error}") from error


def _bgr_images(path: Path) -> NDArray[np.uint8]:
    arrays = read_npz(path)
    if "images" not in arrays:
        raise InputError(f"{path} has no array 'images', only {', '.join(sorted(arrays))}")
    return _coloured(arrays["images"], path)[..., ::-1]


def _mini_images(path: Path) -> NDArray[np.uint8]:
    return _coloured(_table(path, "image_data")["image_data"], path)


def _coloured(images: Any, path: Path) -> NDArray[np.uint8]:
    if (
        not isinstance(images, np.ndarray)
        or images.ndim != 4
        or images.dtype != np.uint8
        or images.shape[-1] != 3
    ):
        got = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"{path}: expected uint8 images (M, H, W, 3), got {got}")
    return images


def _mini_labels(path: Path) -> Labels:
    table = _table(path, "image_data", "class_dict")
    count, members = len(_coloured(table["image_data"], path)), table["class_dict"]
    if not isinstance(members, dict) or not all(isinstance(name, str) for name in members):
        raise InputError(f"{path}: expected a class_dict from names to rows")
    names = sorted(members)
    rows = [_whole_numbers(members[name], path) for name in names]
    every = np.concatenate([*rows, np.zeros(0, np.int64)])
    if not np.array_equal(np.sort(every), np.arange(count)):
        raise InputError(
            f"{path} holds {count} images, but the {len(names)} classes of its class_dict have {len(every)} rows "
            f"of which {len(np.unique(every))} differ: each image belongs to one class"
        )
    labels = np.empty(count, np.int64)
    labels[every] = np.repeat(np.arange(len(names)), [len(own) for own in rows])
    return labels, names


def _tiered_labels(path: Path) -> Labels:
    table = _table(path)
    if "label_specific" in table:
        labels, names = _whole_numbers(table["label_specific"], path), table.get("label_specific_str")
        found = np.unique(labels)
        if not isinstance(names, list) or not np.array_equal(found, np.arange(len(names))):
            count = len(names) if isinstance(names, list) else "no"
            raise InputError(
                f"{path} names {count} classes, but has labels of {len(found)}, "
                f"from {min(found, default=None)} to {max(found, default=None)}"
            )
        return labels, [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names]
    numbers, labels = np.unique(_whole_numbers(_table(path, "labels")["labels"], path), return_inverse=True)
    return labels.astype(np.int64), [str(number) for number in numbers]


def _whole_numbers(values: Any, path: Path) -> NDArray[np.int64]:
    array = np.asarray(values) if isinstance(values, list | tuple | np.ndarray) else np.zeros(1)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"{path}: expected a list of whole numbers, got {values!r:.60}")
    return array.astype(np.int64)


def _table(path: Path, *keys: str) -> dict[str, Any]:
    """The dictionary in a pickle, which has all of `keys`."""
    table = _with_text_keys(read_plain_pickle(path))
    if not isinstance(table, dict):
        raise InputError(f"{path} holds a {type(table).__name__}: expected a dictionary")
    if absent := [key for key in keys if key not in table]:
        raise InputError(
            f"{path} has no {absent[0]!r}, only {', '.join(map(repr, table)) or 'nothing'}"[:300]
        )
    return table


def _with_text_keys(table: Any) -> Any:
    """Dictionaries with `bytes` as keys, which come of Python 2 files that were written again, with text in their place."""
    if not isinstance(table, dict):
        return table
    return {
        key.decode("latin1") if isinstance(key, bytes) else key: _with_text_keys(value)
        for key, value in table.items()
    }


def _refuse_missing(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise InputError(f"no file {path}: expected {', '.join(p.name for p in paths)} beside each other")
