"""What every saved hypernetwork needs: its weight space written into the JSON configuration, and back."""

from typing import Any

from weightgen.weight_space import WeightSpace

# PyTorchModelHubMixin: how to write and read constructor arguments that JSON does not know.
SPACE_CODER: dict[type, tuple[Any, Any]] = {WeightSpace: (WeightSpace.to_json, WeightSpace.from_json)}
