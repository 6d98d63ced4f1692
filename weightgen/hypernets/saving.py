"""What every saved hypernetwork needs: its weight space written into the JSON configuration, and back."""

from typing import Any

from weightgen.weight_space import WeightSpace

# PyTorchModelHubMixin: how to write and read constructor arguments that JSON does not know. It reads the annotation of the argument,
# which must therefore not be postponed to a string (no `from __future__ import annotations` in these files).
SPACE_CODER: dict[type, tuple[Any, Any]] = {WeightSpace: (WeightSpace.to_json, WeightSpace.from_json)}
