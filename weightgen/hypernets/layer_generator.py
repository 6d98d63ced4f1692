"""One layer's weights from the support set: tokens in, a transformer of its own, weights out.

A sequence is [placeholders of the weights, support samples]. The token of a sample is [label embedding |
activation features | image features | 0], and that of a placeholder is learned, whole or its first numbers with 0
behind them. The output token of a placeholder, without its first numbers, is a slice of the layer's weights.

Notation: B tasks, N samples, D token size; W slices of S numbers.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weightgen.nn.set_transformer import SetTransformer, placeholders
from weightgen.nn.support_features import ActivationFeatures


class Slices(NamedTuple):
    """How the parameters of a layer are cut into one slice per placeholder.

    Attributes:
        number: W.
        size: S, numbers in a slice.
        shapes: name and shape of each parameter; its first dimension is W (`output`) or its last two together
            are (`spatial`).
        spatial: whether a slice is a kernel position, (outputs, inputs), instead of an output channel.
    """

    number: int
    size: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    spatial: bool = False

    @classmethod
    def by_output(cls, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> "Slices":
        """One slice for each output channel, or class: all parameters have it as their first dimension."""
        count = shapes[0][1][0]
        return cls(count, sum(math.prod(shape[1:]) for _, shape in shapes), shapes)

    @classmethod
    def by_position(cls, name: str, shape: tuple[int, ...]) -> "Slices":
        """One slice for each position in the kernel of the convolution `name`."""
        return cls(shape[2] * shape[3], shape[0] * shape[1], ((name, shape),), spatial=True)

    def assemble(self, slices: Tensor) -> dict[str, Tensor]:
        """Slices (B, W, S) → parameters by name, with shape (B, *)."""
        if self.spatial:
            name, shape = self.shapes[0]
            kernel = slices.reshape(len(slices), shape[2], shape[3], shape[0], shape[1])
            return {name: kernel.permute(0, 3, 4, 1, 2)}
        sizes = [math.prod(shape[1:]) for _, shape in self.shapes]
        parts = slices.split(sizes, dim=2)
        return {
            name: part.reshape(len(slices), *shape)
            for (name, shape), part in zip(self.shapes, parts, strict=True)
        }


class LayerGenerator(nn.Module):
    """Weights of one layer from the samples of the support set and the activations that enter the layer.

    Args:
        slices: how the layer's parameters are cut.
        labels: number of label slots; one more embedding stands for "no label".
        local: extractor of features of the activations, if any.
        shared_dim: length of the shared features.
        embed_dim: length of the label embeddings, E.
        placeholder_dim: how many numbers of a placeholder are learned, by default all D; the others are 0.
        apart: whether the slices begin apart, as the numbers of a placeholder that become weights begin with N(0, 1) and
            not with 0. Random convolutions are a good start, as batch norms follow; random logits are not.
        transformer: arguments of `SetTransformer`.
    """

    def __init__(
        self,
        slices: Slices,
        labels: int,
        local: ActivationFeatures | None,
        shared_dim: int,
        embed_dim: int,
        placeholder_dim: int | None,
        apart: bool,
        transformer: dict[str, float],
    ) -> None:
        super().__init__()
        self.slices = slices
        self.local = local
        self.embed_dim = embed_dim
        features = shared_dim + (local.size if local is not None else 0)
        self.dim = embed_dim + max(slices.size, features)
        self.padding = self.dim - embed_dim - features
        self.label_embeds = nn.Parameter(torch.randn(labels + 1, embed_dim))
        self.weight_tokens = placeholders(slices.number, placeholder_dim or self.dim)
        if not apart:
            self.weight_tokens.data[:, embed_dim:] = 0
        self.transformer = SetTransformer(self.dim, **transformer)  # type: ignore[arg-type]

    def tokens(self, labels: Tensor, shared: Tensor | None, x: Tensor) -> Tensor:
        """The whole sequence, with shape (B, W + N, D)."""
        tasks, count = labels.shape
        parts = [F.embedding(labels, self.label_embeds)]
        if self.local is not None:
            maps = x.unflatten(1, (tasks, -1)).flatten(0, 1)
            parts.append(self.local(maps).unflatten(0, (count, tasks)).transpose(0, 1))
        if shared is not None:
            parts.append(shared)
        samples = F.pad(torch.cat(parts, dim=2), (0, self.padding))
        first = F.pad(self.weight_tokens, (0, self.dim - self.weight_tokens.shape[1])).expand(tasks, -1, -1)
        return torch.cat([first, samples], dim=1)

    def forward(
        self, labels: Tensor, shared: Tensor | None, x: Tensor, present: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Write the layer's parameters.

        Args:
            labels: slots, the last one for "no label", with shape (B, N).
            shared: shared features, with shape (B, N, F).
            x: activations that enter the layer, with shape (N, B·channels, H, W).
            present: which samples there are, with shape (B, N); all by default.

        Returns:
            Parameters by name, with shape (B, *).
        """
        if present is not None:
            present = F.pad(present, (self.slices.number, 0), value=True)
        out = self.transformer(self.tokens(labels, shared, x), present, self.slices.number)
        numbers = out[:, :, self.embed_dim : self.embed_dim + self.slices.size]
        return self.slices.assemble(numbers)
