"""How a hypernetwork is saved: its weight space is an entry of the JSON configuration."""

from typing import Any

from weightgen.weights import WeightSpace

# How a saved class writes and reads a constructor argument that JSON does not know. The annotation of the argument is read,
# which must therefore not be a string: no `from __future__ import annotations` in the files of these classes.
SPACE_CODER: dict[type, tuple[Any, Any]] = {WeightSpace: (WeightSpace.to_json, WeightSpace.from_json)}
