"""Six photographs that scikit-image carries in its wheel, as examples to ask about."""

from importlib.util import find_spec
from pathlib import Path

from weightgen.errors import InputError

# Those that show one thing: a cat, a cup, a motorcycle, a rocket, an astronaut, a man with a camera.
PHOTOGRAPHS = (
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "astronaut.png",
    "camera.png",
)
ADVICE = "pip install 'weightgen[photos]', or give photos of your own"


def photograph_paths() -> list[Path]:
    """The files of the photographs.

    Raises:
        InputError: scikit-image is not installed, or lacks one.
    """
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise InputError(f"the photographs come with scikit-image: {ADVICE}")
    paths = [Path(found.origin).parent / "data" / name for name in PHOTOGRAPHS]
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"scikit-image lacks {missing[0]}: {ADVICE}")
    return paths
