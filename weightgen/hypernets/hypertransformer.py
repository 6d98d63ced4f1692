"""HyperTransformer: the weights of a CNN from a support set in one pass, layer by layer.

Layer i is generated from the support images and from their activations in the layers before it, which are
generated first. Each layer has its own transformer (`layer_generator`); the features of the images are shared
(`support_features`).

Notation: B tasks, N examples, C classes, P weights.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from weightgen.errors import MAX_LAYERS, InputError, check_sizes
from weightgen.hypernets.layer_generator import LayerGenerator, Slices
from weightgen.hypernets.support_writer import NETWORK_CODER, Generated, SupportWriter
from weightgen.networks.convnet import ConvNet, side_by_side
from weightgen.nn.support_features import ActivationFeatures, ImageFeatures
from weightgen.storage.hub import SavedModule
from weightgen.tasks import PADDING_LABEL, Examples
from weightgen.weights import WeightSpace


class HyperTransformer(SupportWriter, SavedModule, coders=NETWORK_CODER):
    """Support set → weights of a `ConvNet`: w_i = transformer_i(placeholders, labels, image and activation features).

    References:
        Zhmoginov, Sandler, Vladymyrov, "HyperTransformer: Model Generation for Supervised and Semi-Supervised
        Few-Shot Learning", 2022, section 3 and appendix B (2 heads and 3 layers on Omniglot).

    Args:
        network: the CNN to write; `num_classes` is the number of label slots. It is frozen, and its weights
            are where learned layers start.
        generated: layers to generate, 0 for the first convolution and `network.depth` for the logits, by
            default all; the others are learned.
        allocation: the weights that one output token holds: those of one output channel ("output"), or of one
            position of the kernel ("spatial").
        generate_norms: whether scale and shift of the batch norms are generated (the scale around 1) or learned.
        learned_base: whether generated convolution weights are multiplied by a learned factor, 0.1 at first,
            and added to learned ones; training then begins near that of an ordinary CNN. The released code
            has this option without the factor (`add_trainable_weights`).
        image_features: length of the features of the images; 0 leaves them out.
        activation_features: filters of the extractors of activation features; 0 leaves them out, by default as many
            as channels.
        activation_layers: convolutions of an extractor of activation features.
        embed_dim: length of label embeddings.
        layers: blocks of each transformer.
        heads: of each transformer.
        key_fraction: size of queries and keys, as a fraction of the token size.
        value_fraction: size of values, as a fraction of the token size.
        inner_fraction: width of the MLP, as a fraction of the token size; 0 leaves it out.
        leak: negative slope of the ReLU in the transformers.
        decoder: encoder and decoder in place of an encoder only.
        placeholder_dim: how many numbers of a placeholder are learned, by default its whole token; the paper has
            `embed_dim`, and 0 for the others, with which all slices of a layer begin alike. Those of the logits do
            in either case.
        gain: factor of the initial weights with which attention and MLPs end; 1 in the paper. With a small one, a slice
            begins as its placeholder and not as a mean of the support set.

    Raises:
        InputError: a layer that the CNN does not have, learned logits, an option that the allocation does not
            know or that would change nothing, or no features of the images.
    """

    def __init__(
        self,
        network: ConvNet,
        generated: Sequence[int] | None = None,
        allocation: Literal["output", "spatial"] = "output",
        generate_norms: bool = False,
        learned_base: bool = False,
        image_features: int = 32,
        activation_features: int | None = None,
        activation_layers: int = 2,
        embed_dim: int = 32,
        layers: int = 3,
        heads: int = 2,
        key_fraction: float = 1.0,
        value_fraction: float = 1.0,
        inner_fraction: float = 1.0,
        leak: float = 0.0,
        decoder: bool = False,
        placeholder_dim: int | None = None,
        gain: float = 0.1,
    ) -> None:
        chosen = _chosen(network, generated, allocation, generate_norms, learned_base)
        filters = network.channels if activation_features is None else activation_features
        check_sizes(0, image_features=image_features, activation_features=filters)
        check_sizes(1, MAX_LAYERS, embed_dim=embed_dim, activation_layers=activation_layers)
        if placeholder_dim is not None:
            check_sizes(1, embed_dim, placeholder_dim=placeholder_dim)
        if image_features + filters == 0:
            raise InputError(
                "image_features and activation_features are both 0, so no image is seen: raise one of them"
            )
        shapes = dict(WeightSpace.of(network).shapes)
        slices = {i: _slices(shapes, i, network.depth, allocation, generate_norms) for i in chosen}
        made = {name for part in slices.values() for name, _ in part.shapes}
        added = {name for name in made if name.startswith("convs.") and learned_base}
        super().__init__(network, made - added)
        self.factors = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(torch.tensor(0.1)) for name in sorted(added)}
        )
        options = {
            "layers": layers,
            "heads": heads,
            "key_fraction": key_fraction,
            "value_fraction": value_fraction,
            "inner_fraction": inner_fraction,
            "leak": leak,
            "decoder": decoder,
            "gain": gain,
        }
        self.shared = ImageFeatures(network.image_channels, image_features) if image_features else None
        self.generators = nn.ModuleDict()
        for i, part in slices.items():
            local = None
            if filters:
                channels = network.image_channels if i == 0 else network.channels
                depth = 1 if i == network.depth else activation_layers
                local = ActivationFeatures(channels, network.sides[i], filters, depth)
            self.generators[str(i)] = LayerGenerator(
                part,
                network.num_classes,
                local,
                image_features,
                embed_dim,
                placeholder_dim,
                i < network.depth,
                options,
            )

    def generate(self, support: Examples, moments: bool = False) -> Generated:
        """Write CNNs, see `SupportWriter.generate`."""
        network = self.network
        labels, present = support.labels, support.labels != PADDING_LABEL
        everywhere = bool(present.all())  # spares the masks
        slots = torch.where(labels < 0, network.num_classes, labels)
        shared = None
        if self.shared is not None:
            shared = self.shared(support.inputs.flatten(0, 1)).unflatten(0, labels.shape)
        params = self.shared_params(len(labels))
        x, found = side_by_side(support.inputs), []
        mask = None if everywhere else present
        for i in range(network.depth + 1):
            if str(i) in self.generators:
                made = self.generators[str(i)](slots, shared, x, mask)
                params |= {name: self._placed(name, value, params) for name, value in made.items()}
            if i < network.depth:
                x, stats = network.layer(i, x, params, present if moments else mask)
                found += [stats] if stats is not None and moments else []
        return Generated(params, found)

    def _placed(self, name: str, made: Tensor, params: dict[str, Tensor]) -> Tensor:
        """Add generated to learned weights of that name, if there are any, or to 1 for the scale of a norm."""
        if name in params:
            return params[name] + self.factors[name.replace(".", "/")] * made
        return made + 1 if name.startswith("norms.") and name.endswith(".weight") else made


def _chosen(
    network: ConvNet,
    generated: Sequence[int] | None,
    allocation: str,
    generate_norms: bool,
    learned_base: bool,
) -> list[int]:
    """The layers to generate, in order."""
    whole = isinstance(generated, list | tuple | range) and all(type(i) is int for i in generated)
    if generated is not None and not whole:
        raise InputError(f"expected a list of layers, such as generated=[{network.depth}], got {generated!r}")
    chosen = sorted(set(range(network.depth + 1) if generated is None else generated))
    if not set(chosen) <= set(range(network.depth + 1)):
        raise InputError(f"expected layers from 0 to {network.depth} (the logits), got {chosen}")
    if network.depth not in chosen:
        # Classes take their slots at random in each task, so fixed logits cannot tell them apart.
        raise InputError(f"the logits must be generated: add {network.depth} to generated")
    if allocation not in ("output", "spatial"):
        raise InputError(f"expected allocation output or spatial, got {allocation!r}")
    if allocation == "spatial" and (generate_norms or network.settings["conv_bias"]):
        raise InputError("spatial slices hold no biases or norms: write allocation='output'")
    if (generate_norms or learned_base) and len(chosen) == 1:
        raise InputError(
            "generate_norms and learned_base are about generated convolutions, and none is: "
            "add one to generated"
        )
    return chosen


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
