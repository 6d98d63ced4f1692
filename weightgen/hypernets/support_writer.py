"""Common parts of hypernetworks from support sets of images to CNNs: checks, export, and saving of the CNN.

Notation: B tasks, N examples, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from weightgen.errors import InputError
from weightgen.networks.convnet import ConvNet, Moments, side_by_side
from weightgen.tasks import PADDING_LABEL, UNLABELED, Examples
from weightgen.weights import FunctionalNetwork

# `SavedModule`: how to write and read a constructor argument that JSON does not know.
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


class SupportWriter(nn.Module, ABC):
    """Support sets → CNNs. It holds the CNN and its learned parameters; a subclass generates the others.

    Args:
        network: the CNN to write. It is frozen; the learned parameters start at its weights.
        made: names of the parameters that `generate` writes; the others are learned and shared by all tasks.
    """

    def __init__(self, network: ConvNet, made: Collection[str] = ()) -> None:
        super().__init__()
        self._functional = FunctionalNetwork(network)  # whose own parameters are neither trained nor saved
        self.space = self._functional.space
        # Copies, under names that a module may have.
        self.learned = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(network.get_parameter(name).detach().clone())
                for name, _ in self.space.shapes
                if name not in made
            }
        )

    @property
    def network(self) -> ConvNet:
        """The CNN whose weights are written; its own weights are not used."""
        return cast(ConvNet, self._functional.module)

    def shared_params(self, tasks: int) -> dict[str, Tensor]:
        """The learned parameters by name, with shape (B, *)."""
        return {
            name.replace("/", "."): value.expand(tasks, *value.shape) for name, value in self.learned.items()
        }

    @abstractmethod
    def generate(self, support: Examples, moments: bool = False) -> Generated:
        """Write CNNs from B support sets that have been checked; `forward` checks them and returns flat weights.

        Parameters stay a dictionary here, because `ConvNet.run_batch` runs B networks as one convolution on
        it.

        Args:
            support: images (B, N, channels, H, W) and labels (B, N): slots from 0, -1 for an unlabelled
                sample, -100 for padding.
            moments: whether to return the statistics of the support set.

        Returns:
            Parameters, and statistics.
        """

    def forward(self, support: Examples) -> Tensor:
        """Write weights. Slots whose class is absent are written too; `export` leaves them out.

        Args:
            support: images (B, N, channels, H, W), scaled as in training, and labels (B, N): slots from 0, -1
                for an unlabelled sample, -100 for padding.

        Returns:
            Weights, with shape (B, P).

        Raises:
            InputError: see `check_support`.
        """
        check_support(support, self.network)
        return self.space.flatten(self.generate(support).params)

    @torch.no_grad()
    def export(self, support: Examples, stored_statistics: bool = False) -> ConvNet:
        """The CNN of one support set, as an independent module.

        Args:
            support: images (N, channels, H, W), scaled as in training, and labels (N).
            stored_statistics: whether batch norm uses the statistics of the support set, so that each image
                is classified independently of the others; by default it uses those of the images it is given
                together.

        Returns:
            The CNN, in `eval()`, with as many classes as the support set has.

        Raises:
            InputError: see `check_support`.
        """
        if not (isinstance(support, Examples) and all(isinstance(part, Tensor) for part in support)):
            raise InputError("expected Examples(images, labels) of tensors: see weightgen.tasks")
        batch = Examples(support.inputs.unsqueeze(0), support.labels.unsqueeze(0))
        check_support(batch, self.network)
        made = self.generate(batch, moments=stored_statistics)
        classes = int(support.labels.max()) + 1
        written = {name: made.params[name][0] for name, _ in self.space.shapes}
        state = {
            name: (w[:classes] if name.startswith("head.") else w).clone() for name, w in written.items()
        }
        settings = self.network.settings | {"num_classes": classes, "stored_statistics": stored_statistics}
        network = ConvNet(**settings)
        if stored_statistics:
            state |= network.statistics(made.moments)
        network.load_state_dict(state)
        return network.eval().to(support.inputs.device)


def support_moments(network: ConvNet, params: dict[str, Tensor], support: Examples) -> list[Moments]:
    """Statistics of the support set in each layer of B networks."""
    present = support.labels != PADDING_LABEL
    x, found = side_by_side(support.inputs), []
    for i in range(network.depth):
        x, stats = network.layer(i, x, params, present)
        found += [stats] if stats is not None else []
    return found


def check_support(support: Examples, network: ConvNet) -> None:
    """Check support sets.

    Raises:
        InputError: wrong types or shapes, pixels that are not finite, labels outside the slots, one image
            where batch norm needs two, or a task without labelled samples, or with a class number below its
            largest that has none.
    """
    images, labels = support
    _check_form(images, labels, network)
    slots = network.num_classes
    outside = ((labels < UNLABELED) & (labels != PADDING_LABEL)) | (labels >= slots)
    if bool(outside.any()):
        raise InputError(
            f"expected labels from 0 to {slots - 1}, or {UNLABELED} for no label, got {labels[outside][0].item()}: "
            f"this model has {slots} label slots"
        )
    number = torch.arange(slots, device=labels.device)
    known = (labels.unsqueeze(2) == number).any(dim=1)  # (B, C)
    if bool((none := ~known.any(dim=1)).any()):
        raise InputError(
            f"support set {none.nonzero()[0].item()} has no labelled sample: label at least one per class"
        )
    largest = torch.where(known, number, 0).amax(dim=1, keepdim=True)
    if len(absent := (~known & (number < largest)).nonzero()):
        task, missing = absent[0].tolist()
        raise InputError(f"class {missing} of support set {task} has no labelled sample: give it one")


def _check_form(images: Tensor, labels: Tensor, network: ConvNet) -> None:
    expected = (network.image_channels, network.image_size, network.image_size)
    shown = ", ".join(map(str, expected))
    if not (isinstance(images, Tensor) and isinstance(labels, Tensor)):
        raise InputError("expected Examples(images, labels) of tensors: see weightgen.tasks")
    if images.ndim != 5 or labels.ndim != 2 or images.shape[:2] != labels.shape or not len(labels):
        raise InputError(
            f"expected images (B, N, {shown}) with labels (B, N), got {tuple(images.shape)} with {tuple(labels.shape)}"
        )
    if tuple(images.shape[2:]) != expected:
        raise InputError(
            f"expected images (B, N, {shown}), got {tuple(images.shape)}: resize the images, or change their channels"
        )
    if images.dtype != torch.float32 or labels.dtype not in (torch.int16, torch.int32, torch.int64):
        raise InputError(
            f"expected float32 images, scaled as in training, and integer labels, got {images.dtype} and {labels.dtype}: "
            "write (images.float() - mean) / std with the mean and std of training, and labels.long()"
        )
    if not torch.isfinite(images).all():
        raise InputError("the support images hold NaN or infinite pixels: clean them first")
    if images.shape[1] * network.sides[-1] ** 2 < 2:
        raise InputError("one image has no batch statistics: give two support images or more")
