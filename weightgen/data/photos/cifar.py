"""CIFAR-100's photos from the Hub's Parquet files or from torchvision's folder, each under a name of its own.

A photo is named after its class and its pixels (`beaver-0a1b2c3d4e`), so that every source gives it the same name
and a photo that is there twice is used once.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. No licence is stated.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from weightgen.data.photos.knowledge import CLASSES
from weightgen.errors import InputError, needs
from weightgen.storage.columns import check_parquet
from weightgen.storage.images import read_image
from weightgen.storage.limits import check_file

__all__ = ["PARTS", "Photo", "read_parquet", "read_torchvision"]

PARTS = ("train", "test")
COLUMNS = ("img", "fine_label")
MOST_PIXELS = 2**20  # of a photo; CIFAR-100's have 1,024
BATCH = 64  # rows of a Parquet file that are in memory at once


class Photo(NamedTuple):
    """One photo; `part` is CIFAR-100's own split, `png` the file."""

    name: str
    class_name: str
    part: str
    png: bytes


def read_parquet(folder: str | Path) -> list[Photo]:
    """Read the Hub's layout: `train-*.parquet` and `test-*.parquet`, in the folder or in `cifar100/` there.

    Raises:
        InputError: a file is missing or damaged, has not the columns `img` and `fine_label`, or has a class
            that the table of knowledge does not know.
    """
    photos: dict[str, Photo] = {}
    for part in PARTS:
        paths = [
            path for place in (".", "cifar100") for path in Path(folder, place).glob(f"{part}-*.parquet")
        ]
        if not paths:
            raise InputError(f"{folder} has no {part}-*.parquet; expected the Parquet files of cifar100")
        for path in sorted(paths):
            _keep(photos, part, _parquet_rows(path))
    return list(photos.values())


def read_torchvision(root: str | Path, download: bool = False) -> list[Photo]:
    """Read the folder `cifar-100-python` as torchvision keeps it, whose checksums it verifies.

    Args:
        root: the folder that holds `cifar-100-python`.
        download: whether to fetch it there first.

    Raises:
        InputError: it is not there, is not what it should be, or cannot be had.
    """
    from torchvision.datasets import CIFAR100

    photos: dict[str, Photo] = {}
    for part in PARTS:
        try:
            data = CIFAR100(root, train=part == "train", download=download)
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{root}: {reason}; expected torchvision's cifar-100-python there") from error
        rows = (
            (Image.fromarray(pixels), label) for pixels, label in zip(data.data, data.targets, strict=True)
        )
        _keep(photos, part, rows)
    return list(photos.values())


def _keep(photos: dict[str, Photo], part: str, rows: Iterator[tuple[Image.Image, int]]) -> None:
    for image, label in rows:
        digest = hashlib.sha256(image.tobytes()).hexdigest()[:10]
        class_name = CLASSES[label]
        name = f"{class_name}-{digest}"
        photos.setdefault(name, Photo(name, class_name, part, _png(image)))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


def _parquet_rows(path: Path) -> Iterator[tuple[Image.Image, int]]:
    with needs("train"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    try:
        check_file(path, "a Parquet file of cifar100")
        content = pa.memory_map(str(path)).read_buffer()
        file = pq.ParquetFile(pa.BufferReader(content))
        names = file.schema_arrow.names
        missing = [column for column in COLUMNS if column not in names]
        if missing:
            raise InputError(f"{path}: expected columns {' and '.join(COLUMNS)}, got {', '.join(names)}")
        if pa.types.is_nested(file.schema_arrow.field("fine_label").type):
            raise InputError(f"{path}: expected numbers in fine_label")
        _check_classes(path, file.schema_arrow.metadata)
        check_parquet(content, file.schema, COLUMNS, BATCH, str(path), repeated=True)
        for batch in file.iter_batches(BATCH, columns=list(COLUMNS)):
            for img, label in zip(*(batch.column(name).to_pylist() for name in COLUMNS), strict=True):
                yield _decoded(path, img), _label(path, label)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: {reason}; expected a Parquet file of cifar100") from error


def _check_classes(path: Path, metadata: dict[bytes, bytes] | None) -> None:
    """Refuse other classes, where the file names its own."""
    try:
        named = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["fine_label"]["names"]
    except (KeyError, TypeError, ValueError):
        return
    unknown = [name for name in named if name not in CLASSES]
    if unknown or tuple(named) != CLASSES:
        what = f"class {unknown[0]!r} is not in the table" if unknown else "the classes are in another order"
        raise InputError(f"{path}: {what}; expected CIFAR-100's 100 fine classes in their order")


def _label(path: Path, label: Any) -> int:
    if not isinstance(label, int) or not 0 <= label < len(CLASSES):
        raise InputError(f"{path}: expected fine_label from 0 to {len(CLASSES) - 1}, got {label!r}")
    return label


def _decoded(path: Path, img: Any) -> Image.Image:
    try:
        return read_image(io.BytesIO(img["bytes"]), max_pixels=MOST_PIXELS)
    except (TypeError, KeyError, InputError) as error:
        raise InputError(f"{path}: img is no image with {{bytes}}: {error}") from error
