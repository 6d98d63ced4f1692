"""A network of which only the parameters are known: their names and shapes, not what is computed with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weightgen.errors import InputError
from weightgen.storage.hub import SavedModule


class NamedParameters(nn.Module, SavedModule):
    """Stands for the network of an imported zoo in a pipeline: its state dictionary has the names and shapes of the imported networks.

    Args:
        shapes: pairs of name and shape, as `WeightSpace.to_json` gives them.
        adapter_config: that of the PEFT adapters which were imported; None for state dictionaries.

    Raises:
        InputError: a name is also the beginning of another one, up to a dot.
    """

    def __init__(
        self, shapes: Sequence[Sequence[Any]], adapter_config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.adapter_config = adapter_config
        for name, shape in shapes:
            *folders, last = name.split(".")
            at: nn.Module = self
            for folder in folders:
                if folder not in at._modules:
                    _check_free(at, folder, name)
                    at.add_module(folder, nn.Module())
                at = at.get_submodule(folder)
            _check_free(at, last, name)
            at.register_parameter(last, nn.Parameter(torch.zeros(tuple(shape)), requires_grad=False))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Refused: load the weights into a network of your own.

        Raises:
            InputError: always.
        """
        raise InputError(
            "this zoo has weights, but not the network that uses them: load `state_dict()` of sampled weights into a network of your own"
        )


def _check_free(module: nn.Module, name: str, parameter: str) -> None:
    if not name or hasattr(module, name):
        raise InputError(f"the parameter {parameter!r} has a name that no module can give to one: rename it")
