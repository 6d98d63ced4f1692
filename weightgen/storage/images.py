"""The one reader of pictures: what any file shows on a screen, as RGB with 8 bits."""

import os
import struct
import warnings
from io import BytesIO
from pathlib import PurePath, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, kind_of
from weightgen.storage.limits import VARIABLE, check_file, pixel_limit

warnings.filterwarnings(
    "error", category=Image.DecompressionBombWarning
)  # Pillow's advice: else it only warns

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Endings, in small letters, by which files are taken for pictures."""


def is_stray(path: StrPath) -> bool:
    """Whether a file or folder was left by a system or an editor: `.ipynb_checkpoints`, `._0.png`, `__MACOSX`, `Thumbs.db`."""
    names = [part for part in PurePath(path).parts if part not in (".", "..")]
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in names)


def member_path(name: str) -> PurePosixPath:
    """The name of a member of a zip as a path: `./a.png`, `a//b.png` and those with backslashes are read like others."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    return PurePosixPath(*parts)


def read_image(
    source: StrPath | BinaryIO, background: str = "white", max_pixels: int | None = None
) -> Image.Image:
    """Read the first frame of a picture file as RGB.

    Args:
        source: a path, or an open binary file.
        background: the colour that is put behind what is transparent.
        max_pixels: larger pictures are refused by what their header says, before their pixels are read.

    Raises:
        InputError: no such file, no picture, a truncated or too large one, or one without a clear range of values.
    """
    name = getattr(source, "name", "the picture") if hasattr(source, "read") else str(source)
    if not hasattr(source, "read"):
        if kind_of(name) == "folder":
            raise InputError(f"{name} is not an image that can be read: it is a folder")
        check_file(name, "an image that can be read")
    most = pixel_limit() if max_pixels is None else min(max_pixels, pixel_limit())
    if VARIABLE in os.environ and most > (Image.MAX_IMAGE_PIXELS or most):
        Image.MAX_IMAGE_PIXELS = most  # the user has asked for more than Pillow's limit
    try:
        with Image.open(source) as image:
            if image.width * image.height > most:
                raise Image.DecompressionBombError
            return to_rgb(image, background)
    except FileNotFoundError as error:
        raise InputError(f"{name} is not an image that can be read: there is no such file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = min(most, Image.MAX_IMAGE_PIXELS or most)
        advice = f"; {VARIABLE} sets the limit" if max_pixels is None else ""
        raise InputError(
            f"{name} is not an image that can be read: it has more than {limit:,} pixels{advice}"
        ) from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image that can be read: its format is not known") from error
    except Exception as error:  # decoders fail in many ways on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} is not an image that can be read: {reason}") from error


def to_rgb(image: Image.Image, background: str = "white") -> Image.Image:
    """Convert a picture to RGB: turned as its EXIF data say, 16-bit and float values scaled, CMYK by its profile.

    Args:
        image: the picture.
        background: the colour that is put behind what is transparent.

    Raises:
        InputError: values whose range is not clear.
    """
    image.load()  # a file is read only here, and may end too early
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in (*SIXTEEN_BITS, "I", "F"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
    return _by_profile(image) if image.mode == "CMYK" else image.convert("RGB")


def _by_profile(image: Image.Image) -> Image.Image:
    """Inks to RGB as the file's colour profile says; without one, or with a damaged one, by Pillow's formula."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        found = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (KeyError, TypeError, OSError, ImageCms.PyCMSError):
        found = None
    return found if found is not None else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return image  # damaged EXIF data say nothing about the orientation


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values of 16 bits, or floats from 0 to 1, to 0 … 255; values of 8 bits stay as they are."""
    whole = values.dtype != np.float32
    wide = values.itemsize == 2  # of a file with 16 bits, even where the picture is dark
    values = values.astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise InputError("grey values must be finite, and from 0 to 1, to 255 or to 65535")
    if wide or values.max() > 255:
        values = values / 257
    elif not whole and values.max() <= 1:
        values = values * 255
    return values.round().astype(np.uint8)
