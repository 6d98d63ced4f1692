"""How much memory an input may ask for: archives, pictures, samples. One limit for all, which an environment variable raises."""

from __future__ import annotations

import os
import zipfile

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, kind_of

VARIABLE = "WEIGHTGEN_MAX_GB"
DEFAULT_GB = 4.0
BYTES_OF_PIXEL = 48  # decoding, turning, scaling: twelve numbers of four bytes at most


def max_bytes() -> float:
    """Bytes that one input may take: 4 GB, or as many as the environment variable WEIGHTGEN_MAX_GB says.

    Raises:
        InputError: the variable holds no positive number.
    """
    text = os.environ.get(VARIABLE, str(DEFAULT_GB))
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < 1e9:
        raise InputError(f"the environment variable {VARIABLE} must be a number of gigabytes, got {text!r}")
    return limit * 1e9


def pixel_limit() -> int:
    """Pixels that one picture may have: 83 million with the default of 4 GB."""
    return int(max_bytes() / BYTES_OF_PIXEL)


def check_bytes(needed: float, what: str) -> None:
    """Refuse what would take more memory than the limit.

    Args:
        needed: bytes.
        what: what takes them, for the message.

    Raises:
        InputError: it takes too many.
    """
    if needed > (limit := max_bytes()):
        raise InputError(
            f"{what} would take {needed / 1e9:,.1f} GB, more than the limit of {limit / 1e9:g} GB: if that is meant, "
            f"set the environment variable {VARIABLE}"
        )


def check_file(path: StrPath, what: str) -> None:
    """Refuse devices and pipes, which may never end; a name that does not exist passes.

    Raises:
        InputError: naming what was expected.
    """
    if kind_of(path) in ("folder", "other"):
        raise InputError(f"{path} is no file: expected {what}")


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """The unpacked bytes of a member of a zip.

    Raises:
        InputError: there are more than the limit.
    """
    check_bytes(archive.getinfo(member).file_size, f"{archive.filename or 'the zip file'}:{member}")
    return archive.read(member)
