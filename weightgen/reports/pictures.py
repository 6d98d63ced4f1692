"""Pictures that a demo shows a classifier: those of a task, those of a folder, or photographs of scikit-image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from weightgen.data.features.images import ImageStore
from weightgen.data.photos.photographs import photograph_paths
from weightgen.errors import InputError
from weightgen.storage.files import StrPath
from weightgen.storage.images import read_image

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST = 60


class Picture(NamedTuple):
    """An image with its name, and its answer where that is known."""

    name: str
    image: Image.Image
    truth: str | None = None


def task_pictures(task: Mapping[str, Any], images: ImageStore, count: int = 18) -> list[Picture]:
    """Some query images of a task, whose answers are known."""
    names, labels = task["query_images"], task["query_labels"]
    step = max(1, len(names) // count)  # rows lie in blocks of one answer: take some of each
    chosen = list(range(0, len(names), step))[:count]
    return [Picture(names[i], images.open(names[i]), task["answers"][labels[i]]) for i in chosen]


def folder_pictures(folder: StrPath) -> list[Picture]:
    """The images that lie in a folder, by name; the first 60 of more.

    Raises:
        InputError: no such folder, no image in it, or one that cannot be read.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"no folder {folder}: expected a folder of photos, such as IMAGES=my_photos")
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in ENDINGS)
    if not paths:
        raise InputError(
            f"{folder} holds no photo: expected files named {', '.join('*' + x for x in ENDINGS[:4])}"
        )
    return [Picture(path.stem, read_image(path)) for path in paths[:MOST]]


def photographs() -> list[Picture]:
    """The photographs of `photograph_paths`.

    Raises:
        InputError: scikit-image is not installed, or lacks one.
    """
    return [Picture(path.stem, read_image(path)) for path in photograph_paths()]
