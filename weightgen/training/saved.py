"""What runs have saved, loaded by the classes that they name. For recipes only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_json
from weightgen.storage.hub import class_named, load_part
from weightgen.weights import FunctionalNetwork

FACTS = ("training.json", "adapted.json")


def read_facts(folder: StrPath) -> dict[str, Any]:
    """The facts of a run, with the class of each of its modules.

    Raises:
        InputError: `folder` is not the output of a run.
    """
    for name in FACTS:
        if (Path(folder) / name).is_file():
            facts = read_json(Path(folder) / name)
            if isinstance(facts, dict):
                return facts
    raise InputError(f"{folder} is not the output of a training recipe: it has neither {' nor '.join(FACTS)}")


def check_same(folder: StrPath, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to begin at the model of another run with other settings.

    Args:
        folder: the output of the other run.
        before: the settings of its model.
        now: the settings of this run's model.

    Raises:
        InputError: naming a setting that differs.
    """
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise InputError(
                f"the model of {folder} has {name}={before.get(name)}, and the settings say {now.get(name)}"
            )


def load_module(
    folder: StrPath,
    name: str,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    kind: type[Any] = nn.Module,
) -> Any:
    """Load the module `name` of a run, frozen and in evaluation mode.

    Args:
        folder: the output of a run.
        name: of the module.
        device: where it goes.
        trust_remote_code: whether a class that is not weightgen's may be imported.
        kind: the class that it must be of.

    Raises:
        InputError: the run has no such module, or one of another kind, or it is damaged, or of a class that is not weightgen's.
    """
    path = read_facts(folder).get(name)
    if not isinstance(path, str):
        raise InputError(f"{folder} has no {name}: it is the output of another recipe than is needed here")
    found = class_named(path, trust_remote_code)
    if isinstance(found, type) and not issubclass(found, kind):
        raise InputError(
            f"{folder} holds a {found.__name__}, which is no {kind.__name__}: it is the output of another recipe than is needed here"
        )
    module: nn.Module = load_part(found, Path(folder) / name)
    return module.to(device).requires_grad_(False)


def load_run(
    folder: StrPath, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> tuple[FunctionalNetwork, Any]:
    """Load the base network and the hypernetwork of a run.

    Raises:
        InputError: see `load_module`.
    """
    network = load_module(folder, "network", device, trust_remote_code)
    hypernet = load_module(folder, "hypernet", device, trust_remote_code)
    return FunctionalNetwork.of_space(network, hypernet.space), hypernet
