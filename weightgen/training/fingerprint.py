"""Fingerprints of data, by which a run that goes on knows that it reads the same. For recipes only."""

import hashlib
import os
from pathlib import Path

from weightgen.errors import InputError

WHOLE = 1 << 20  # bytes up to which a file is read whole
PIECES, PIECE = 16, 1 << 16  # of a larger file: evenly spaced pieces


def fingerprint(name: str, path: str) -> str:
    """A digest of a file, or of all files in a folder: their names and sizes, and their contents or samples of them.

    Raises:
        InputError: there is no such file or folder.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"{name}={path}: there is no such file or folder")
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if _counts(file, root))
    found = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        found.update(f"{file.relative_to(root)} {size}\n".encode())
        with open(file, "rb") as opened:
            if size <= WHOLE:
                found.update(opened.read())
            else:
                for piece in range(PIECES):
                    opened.seek((size - PIECE) * piece // (PIECES - 1), os.SEEK_SET)
                    found.update(opened.read(PIECE))
    return found.hexdigest()[:16]


def _counts(file: Path, root: Path) -> bool:
    """Leave out hidden files and unfinished features, which come and go while others are read."""
    parts = file.relative_to(root).parts
    return file.is_file() and not any(part.startswith(".") or part.endswith(".partial") for part in parts)
