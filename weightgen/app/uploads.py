"""Uploaded pictures: limited in number and size, and read by the library's own reader of images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from weightgen.errors import InputError
from weightgen.storage.files import StrPath
from weightgen.storage.images import read_image

MAX_PICTURES = 24
MAX_MEGABYTES = 10
MAX_PIXELS = 40_000_000


def read_uploads(entries: Sequence[Any] | None) -> list[Image.Image]:
    """The pictures of a gallery.

    Args:
        entries: paths, or pairs of a path and a caption; None for an empty gallery.

    Raises:
        InputError: too many, or one that is too large or no picture; it is named without its folder.
    """
    paths = [entry[0] if isinstance(entry, tuple | list) else entry for entry in entries or []]
    if len(paths) > MAX_PICTURES:
        raise InputError(f"got {len(paths)} pictures: give at most {MAX_PICTURES} at a time")
    return [read_upload(path) for path in paths]


def read_upload(path: StrPath) -> Image.Image:
    """One picture as RGB.

    Raises:
        InputError: see `read_uploads`.
    """
    path = Path(path)
    if path.stat().st_size > MAX_MEGABYTES * 2**20:
        raise InputError(f"{path.name} is larger than {MAX_MEGABYTES} MB: make it smaller")
    content = io.BytesIO(path.read_bytes())
    content.name = path.name  # the reader names it in its errors
    return read_image(content, max_pixels=MAX_PIXELS)
