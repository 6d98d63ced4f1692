"""Models that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from weightgen.storage.files import StrPath, kind_of

SHIPPED = Path(__file__).parents[1] / "models"


def shipped_folder(name: StrPath) -> Path:
    """The folder of that name, or the one of a model that comes with the package; what lies on disk goes first."""
    folder = Path(name)
    shipped = not kind_of(folder) and len(folder.parts) == 1 and (SHIPPED / folder).is_dir()
    return SHIPPED / folder if shipped else folder
