"""Weights as one `.npz` file, and the lines of NumPy that use it."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from weightgen.errors import InputError

if TYPE_CHECKING:
    from weightgen.exports.export import Export

CODE = "weightgen.exports.numpy_code"


def write_numpy(export: Export, folder: Path) -> dict[str, Any]:
    """Write `weights.npz`, `network.py` (the network as a formula in NumPy), and `use.py` (the lines that answer).

    The file holds `samples/NAME` (K, *) for every parameter and buffer, and under plain names the context, the network's numbers
    such as `logit_scale`, and the `choices`, if there are answers.

    Raises:
        InputError: there is no such formula for the network.
    """
    kinds = {type(network) for network in export.networks}
    code = [_code_of(kind) for kind in kinds][0]
    if code is None:
        name = next(iter(kinds)).__name__
        raise InputError(
            f"there are no lines of NumPy for {name}: write format='onnx', which needs no torch either, or 'state_dict'"
        )
    states = [_state(network) for network in export.networks]
    arrays = {f"samples/{name}": np.stack([state[name] for state in states]) for name in states[0]}
    arrays |= {name: _array(value) for name, value in export.context.items()}
    plain = vars(export.networks[0]).items()
    arrays |= {
        name: np.asarray(value)
        for name, value in plain
        if type(value) in (bool, int, float) and name[0] != "_"
    }
    if answers := export.about.get("answers"):
        arrays["choices"] = np.asarray(answers)
    np.savez(folder / "weights.npz", allow_pickle=False, **arrays)
    shutil.copyfile(code, folder / "network.py")
    shutil.copyfile(_found(f"{CODE}.use"), folder / "use.py")
    return {}


def _code_of(kind: type[nn.Module]) -> str | None:
    """The file with the formula of a network of weightgen, which has the name of its module."""
    home, _, name = kind.__module__.rpartition(".")
    spec = find_spec(f"{CODE}.{name}") if home == "weightgen.networks" else None
    return None if spec is None else spec.origin


def _found(name: str) -> str:
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    return spec.origin


def _state(network: nn.Module) -> dict[str, Any]:
    return {name: _array(value) for name, value in [*network.named_parameters(), *network.named_buffers()]}


def _array(value: Tensor) -> Any:
    return value.detach().cpu().numpy()
