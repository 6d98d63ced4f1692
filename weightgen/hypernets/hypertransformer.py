"""HyperTransformer: the weights of a CNN from a support set in one pass, layer by layer.

Layer i is generated from the support images and from the activations they cause in the layers before it, which were generated first. Each
layer has its own transformer (`layer_generator`); the features of the images are shared (`support_features`).

Letters: B tasks, N examples, C classes, P weights.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from weightgen.errors import InputError
from weightgen.hypernets.layer_generator import LayerGenerator, Slices
from weightgen.hypernets.support_features import LocalFeatures, SharedFeatures
from weightgen.hypernets.support_sets import NETWORK_CODER, Generated, check_support, export_network
from weightgen.networks.convnet import ConvNet, side_by_side
from weightgen.tasks import PADDING_LABEL, Examples
from weightgen.weight_space import WeightSpace


class HyperTransformer(nn.Module, PyTorchModelHubMixin, library_name="weightgen", coders=NETWORK_CODER):
    """Support set → weights of a `ConvNet`: w_i = transformer_i(placeholders, labels, features of images, features of activations).

    References:
        Zhmoginov, Sandler, Vladymyrov, "HyperTransformer: Model Generation for Supervised and Semi-Supervised Few-Shot Learning",
        2022, section 3 and appendix B (2 heads and 3 layers on Omniglot).

    Args:
        network: the CNN to write; `num_classes` is the number of label slots, and its own weights are not used.
        generated: layers to generate, 0 for the first convolution and `network.depth` for the logits, by default all; the others are
            learned.
        allocation: a slice of weights is an output channel, or a position of the kernel (`spatial`).
        generate_norms: whether scale and shift of the batch norms are generated, the scale around 1; else they are learned.
        shared_features: length of the shared features; 0 leaves them out.
        local_features: filters of the local extractors; 0 leaves them out, by default as many as channels.
        local_layers: convolutions of a local extractor.
        embed_dim: length of label embeddings and placeholders.
        layers: blocks of each transformer.
        heads: of each transformer.
        key_fraction: size of queries and keys, as a fraction of the token size.
        value_fraction: size of values, as a fraction of the token size.
        inner_fraction: width of the MLP, as a fraction of the token size; 0 leaves it out.
        leak: negative slope of the ReLU in the transformers.
        decoder: encoder and decoder in place of an encoder only.

    Raises:
        InputError: a layer that the CNN does not have, learned logits, or an option that the allocation does not know.
    """

    def __init__(
        self,
        network: ConvNet,
        generated: Sequence[int] | None = None,
        allocation: Literal["output", "spatial"] = "output",
        generate_norms: bool = False,
        shared_features: int = 32,
        local_features: int | None = None,
        local_layers: int = 2,
        embed_dim: int = 32,
        layers: int = 3,
        heads: int = 2,
        key_fraction: float = 1.0,
        value_fraction: float = 1.0,
        inner_fraction: float = 1.0,
        leak: float = 0.0,
        decoder: bool = False,
    ) -> None:
        super().__init__()
        chosen = set(range(network.depth + 1) if generated is None else generated)
        if not chosen <= set(range(network.depth + 1)):
            raise InputError(f"expected layers from 0 to {network.depth} (the logits), got {sorted(chosen)}")
        if network.depth not in chosen:
            # Classes take their slots at random in each task, so fixed logits cannot tell them apart.
            raise InputError(f"the logits must be generated: add {network.depth} to generated")
        if allocation not in ("output", "spatial"):
            raise InputError(f"expected allocation output or spatial, got {allocation!r}")
        if allocation == "spatial" and (generate_norms or network.settings["conv_bias"]):
            raise InputError("spatial slices hold no biases or norms: write allocation='output'")
        # Its parameters are never trained: they are hidden from the optimiser and from data parallelism.
        self._network = (network.requires_grad_(False),)
        self.space = WeightSpace.of(network)
        shapes = dict(self.space.shapes)
        filters = network.channels if local_features is None else local_features
        options = {
            "layers": layers, "heads": heads, "key_fraction": key_fraction, "value_fraction": value_fraction,
            "inner_fraction": inner_fraction, "leak": leak, "decoder": decoder,
        }  # fmt: skip
        self.shared = SharedFeatures(network.image_channels, shared_features) if shared_features else None
        self.generators = nn.ModuleDict()
        for i in sorted(chosen):
            last = i == network.depth
            local = None
            if filters:
                channels = network.image_channels if i == 0 else network.channels
                local = LocalFeatures(channels, network.sides[i], filters, 1 if last else local_layers)
            slices = _slices(shapes, i, network.depth, allocation, generate_norms)
            labels = network.num_classes
            self.generators[str(i)] = LayerGenerator(
                slices, labels, local, shared_features, embed_dim, options
            )
        made = {name for part in self.generators.values() for name, _ in part.slices.shapes}  # type: ignore[union-attr]
        # A fresh copy of the CNN's own start, under names that a module may have.
        self.learned = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(network.get_parameter(name).detach().clone())
                for name in shapes
                if name not in made
            }
        )

    @property
    def network(self) -> ConvNet:
        """The CNN whose weights are written; its own are of no account."""
        return self._network[0]

    def generate(self, support: Examples, moments: bool = False) -> Generated:
        """Write CNNs from B support sets that are known to be right; `forward` checks.

        Args:
            support: images (B, N, channels, H, W) and labels: slots from 0, -1 for an unlabelled sample, -100 for none.
            moments: whether to return the statistics of the support set.

        Returns:
            Parameters, and statistics.
        """
        network = self.network
        labels, present = support.labels, support.labels != PADDING_LABEL
        everywhere = bool(present.all())  # spares the masks
        slots = torch.where(labels < 0, network.num_classes, labels)
        shared = None
        if self.shared is not None:
            shared = self.shared(support.inputs.flatten(0, 1)).unflatten(0, labels.shape)
        params = {
            name.replace("/", "."): value.expand(len(labels), *value.shape)
            for name, value in self.learned.items()
        }
        x, found = side_by_side(support.inputs), []
        mask = None if everywhere else present
        for i in range(network.depth + 1):
            if str(i) in self.generators:
                made = self.generators[str(i)](slots, shared, x, mask)
                params |= {k: v + 1 if k == f"norms.{i}.weight" else v for k, v in made.items()}
            if i < network.depth:
                x, stats = network.layer(i, x, params, present if moments else mask)
                found += [stats] if stats is not None and moments else []
        return Generated(params, found)

    def forward(self, condition: Examples) -> Tensor:
        """Write weights.

        Args:
            condition: support sets: images (B, N, channels, H, W) and labels (B, N): slots from 0, -1 for an unlabelled
                sample, -100 for padding.

        Returns:
            Weights, with shape (B, P).

        Raises:
            InputError: see `check_support`.
        """
        check_support(condition, self.network)
        return self.space.flatten(self.generate(condition).params)

    def export(self, support: Examples, stored_statistics: bool = False) -> ConvNet:
        """The CNN of one support set, as a module of its own that needs nothing of this one.

        Args:
            support: images (N, channels, H, W) and labels (N).
            stored_statistics: whether batch norm uses the statistics of the support set, so that each image is classified by
                itself; by default it uses those of the images it is given together.

        Returns:
            The CNN, in `eval()`.

        Raises:
            InputError: see `check_support`.
        """
        return export_network(self, support, stored_statistics)


def _slices(
    shapes: dict[str, tuple[int, ...]], index: int, depth: int, allocation: str, norms: bool
) -> Slices:
    """How the parameters of one layer are cut."""
    if index == depth:
        return Slices.by_output(tuple((name, shapes[name]) for name in ("head.weight", "head.bias")))
    names = [f"convs.{index}.weight", f"convs.{index}.bias"]
    names += [f"norms.{index}.weight", f"norms.{index}.bias"] if norms else []
    found = tuple((name, shapes[name]) for name in names if name in shapes)
    return Slices.by_output(found) if allocation == "output" else Slices.by_position(*found[0])
