"""What all hypernetworks on support sets of images share: checks, export, and how their CNN is saved.

Letters: B tasks, N examples, C classes.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from weightgen.data.episodes import UNLABELED
from weightgen.errors import InputError
from weightgen.networks.convnet import ConvNet, Moments, side_by_side
from weightgen.tasks import PADDING_LABEL, Examples

# PyTorchModelHubMixin: how to write and read a constructor argument that JSON does not know.
NETWORK_CODER: dict[type, tuple[Any, Any]] = {
    ConvNet: (lambda network: network.settings, lambda settings: ConvNet(**settings))
}


class Generated(NamedTuple):
    """CNNs written from B support sets.

    Attributes:
        params: parameters by name, with shape (B, *).
        moments: statistics of the support set in each convolutional layer, if they were asked for.
    """

    params: dict[str, Tensor]
    moments: list[Moments]


class SupportHypernetwork(Protocol):
    """Support sets → CNNs."""

    @property
    def network(self) -> ConvNet: ...

    def generate(self, support: Examples, moments: bool = False) -> Generated: ...


def support_moments(network: ConvNet, params: dict[str, Tensor], support: Examples) -> list[Moments]:
    """Statistics of the support set in each layer of B networks."""
    present = support.labels != PADDING_LABEL
    x, found = side_by_side(support.inputs), []
    for i in range(network.depth):
        x, stats = network.layer(i, x, params, present)
        found += [stats] if stats is not None else []
    return found


@torch.no_grad()
def export_network(
    hypernet: SupportHypernetwork, support: Examples, stored_statistics: bool = False
) -> ConvNet:
    """The CNN of one support set, see `HyperTransformer.export`."""
    batch = Examples(support.inputs.unsqueeze(0), support.labels.unsqueeze(0))
    check_support(batch, hypernet.network)
    made = hypernet.generate(batch, moments=stored_statistics)
    params = {name: made.params[name][0] for name, _ in hypernet.network.named_parameters()}
    if stored_statistics:
        return hypernet.network.with_statistics(params, made.moments).to(support.inputs.device)
    network = ConvNet(**hypernet.network.settings)
    network.load_state_dict(params)
    return network.eval().to(support.inputs.device)


def check_support(support: Examples, network: ConvNet) -> None:
    """Refuse support sets that no CNN should be written from.

    Raises:
        InputError: wrong shapes, pixels that are not finite, labels outside the slots, or a task without labelled samples, or with a class
            number below its largest that has none.
    """
    images, labels = support
    expected = (network.image_channels, network.image_size, network.image_size)
    if images.ndim != 5 or tuple(images.shape[2:]) != expected or images.shape[:2] != labels.shape:
        raise InputError(
            f"expected images (B, N, {', '.join(map(str, expected))}) with labels (B, N), "
            f"got {tuple(images.shape)} with {tuple(labels.shape)}: resize the images"
        )
    if not torch.isfinite(images).all():
        raise InputError("the support images hold NaN or infinite pixels: clean them first")
    slots = network.num_classes
    if bool(((labels < UNLABELED) & (labels != PADDING_LABEL)).any()) or bool((labels >= slots).any()):
        wrong = labels[((labels < UNLABELED) & (labels != PADDING_LABEL)) | (labels >= slots)][0].item()
        raise InputError(
            f"expected labels from 0 to {slots - 1}, or {UNLABELED} for no label, got {wrong}: "
            f"this model has {slots} label slots"
        )
    for task, row in enumerate(labels):
        known = set(row[row >= 0].tolist())
        if not known:
            raise InputError(f"support set {task} has no labelled sample: label at least one per class")
        if absent := sorted(set(range(max(known) + 1)) - known):
            raise InputError(f"class {absent[0]} of support set {task} has no labelled sample: give it one")
