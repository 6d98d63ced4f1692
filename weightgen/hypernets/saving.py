"""Saving of hypernetworks: the weight space as an entry of the JSON configuration."""

from pathlib import Path
from typing import Any

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_json
from weightgen.storage.hub import class_named, load_part
from weightgen.weights import WeightSpace

# How `SavedModule` writes and reads a constructor argument that JSON does not know. It reads the annotation of the argument,
# which must therefore not be a string: no `from __future__ import annotations` in the files of these classes.
SPACE_CODER: dict[type, tuple[Any, Any]] = {WeightSpace: (WeightSpace.to_json, WeightSpace.from_json)}


def load_hypernet(folder: StrPath, facts: str) -> Any:
    """Load a hypernetwork of any class from the output folder of a recipe.

    Args:
        folder: holds hypernet/ and `facts`.
        facts: a JSON file there, whose entry "hypernet" is the dotted path of the class; without the entry it
            is `SharedWeights`.

    Raises:
        InputError: a part is missing, damaged, or of a class that is not weightgen's.
    """
    facts_of = read_json(Path(folder) / facts)
    if not isinstance(facts_of, dict):
        raise InputError(f"{Path(folder) / facts} does not hold the facts of a training run")
    kind = class_named(facts_of.get("hypernet", "weightgen.hypernets.shared.SharedWeights"))
    return load_part(kind, Path(folder) / "hypernet")
