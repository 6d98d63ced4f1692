"""Symmetries of weights: networks that compute the same get the same weights, as far as names and shapes tell how.

The hidden units of a network can be permuted, and the two factors of a LoRA product turned against each other, without any change of
what it computes; means of such weights mean nothing. Two forms are known here, and everything else stays as it is:

- a plain chain of linear or convolution layers (2-D to 5-D weights, each with a bias or without), whose state dictionary holds nothing
  else: hidden units are matched with those of a reference network. Names and shapes do not show a skip connection, or layers that run in
  another order than that of their names: align no such network.
- LoRA pairs `…lora_A…` (r, in) and `…lora_B…` (out, r): balanced singular value form, in the order and with the signs of the reference.

Notation: w weights (P), L layers, r rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from weightgen.errors import needs
from weightgen.weights import WeightSpace

SWEEPS = 50  # over the layers of a chain; it ends earlier where no unit moves

Params = dict[str, Tensor]


class Layer(NamedTuple):
    """The names of a layer's weight, and of its bias or None."""

    weight: str
    bias: str | None


class Symmetries(NamedTuple):
    """What can be aligned in a network.

    Attributes:
        chain: layers in the order in which they run; hidden units lie between them. Empty where there is no plain chain.
        pairs: names of the two factors of each LoRA product.
        untouched: names of parameters that stay as they are.
    """

    chain: list[Layer]
    pairs: list[tuple[str, str]]
    untouched: list[str]


def find_symmetries(space: WeightSpace) -> Symmetries:
    """What can be aligned, from the names and shapes of the parameters alone."""
    shapes = dict(space.shapes)
    pairs = []
    for name, shape in shapes.items():
        other = re.sub(r"lora_A(?=\.|$)", "lora_B", name)
        if other != name and other in shapes and len(shape) == len(shapes[other]) == 2:
            if shape[0] == shapes[other][1] <= min(shape[1], shapes[other][0]):
                pairs.append((name, other))
    chain = [] if any("lora_" in name for name in shapes) else _chain(shapes)
    used = {name for pair in pairs for name in pair}
    if chain:
        used = {name for layer in chain for name in layer if name is not None}
    return Symmetries(chain, pairs, [name for name in shapes if name not in used])


def _chain(shapes: dict[str, tuple[int, ...]]) -> list[Layer]:
    """The layers of a plain chain in the natural order of their names (2 before 10), or none."""
    found: dict[str, set[str]] = {}
    for name in shapes:
        prefix, _, last = name.rpartition(".")
        found.setdefault(prefix, set()).add(last)
    layers = []
    for prefix in sorted(
        found, key=lambda name: [(part.isdigit(), part.zfill(9)) for part in name.split(".")]
    ):
        weight, bias = (f"{prefix}.{last}".lstrip(".") for last in ("weight", "bias"))
        if "weight" not in found[prefix] or found[prefix] - {"weight", "bias"} or len(shapes[weight]) < 2:
            return []
        has_bias = "bias" in found[prefix]
        if has_bias and shapes[bias] != shapes[weight][:1]:
            return []
        layers.append(Layer(weight, bias if has_bias else None))
    for layer, after in zip(layers, layers[1:], strict=False):
        units, inputs = shapes[layer.weight][0], shapes[after.weight][1]
        # Where pictures become a vector, each channel has several inputs.
        if inputs != units and not (
            len(shapes[after.weight]) == 2 < len(shapes[layer.weight]) and inputs % units == 0
        ):
            return []
    return layers if len(layers) > 1 else []


def align(space: WeightSpace, weights: Tensor, reference: Tensor) -> Tensor:
    """The weights (P,) of a network that computes the same, as near to the reference (P,) as its symmetries allow.

    References:
        Ainsworth et al., "Git Re-Basin: Merging Models modulo Permutation Symmetries", 2023, algorithm 1 (weight matching).
    """
    found = find_symmetries(space)
    params, like = space.unflatten(weights.double()), space.unflatten(reference.double())
    if found.pairs:
        params |= _align_pairs(params, like, found.pairs)
    elif found.chain:
        params |= _align_chain(params, like, found.chain)
    return space.flatten(params).to(weights.dtype)


def _align_chain(params: Params, like: Params, chain: list[Layer]) -> Params:
    """Permute the hidden units of each layer until no matching is better."""
    with needs("train"):
        from scipy.optimize import linear_sum_assignment

    params = dict(params)
    for _ in range(SWEEPS):
        moved = False
        for layer, after in zip(chain, chain[1:], strict=False):
            ours, theirs = (_of_units(found, layer, after) for found in (params, like))
            similar = theirs @ ours.T  # (units of the reference, ours)
            rows, order = linear_sum_assignment(similar.numpy(), maximize=True)
            gain = similar[rows, order].sum() - similar.diagonal().sum()
            if gain > 1e-9 * similar.abs().sum():
                params |= _permuted(params, layer, after, torch.as_tensor(order))
                moved = True
        if not moved:
            break
    return params


def _of_units(params: Params, layer: Layer, after: Layer) -> Tensor:
    """All numbers that belong to each hidden unit: its weights, its bias, and the weights that read it."""
    weight, reads = params[layer.weight], params[after.weight]
    units = len(weight)
    parts = [weight.flatten(1), _by_unit(reads, units).transpose(0, 1).flatten(1)]
    if layer.bias is not None:
        parts.append(params[layer.bias][:, None])
    return torch.cat(parts, dim=1)


def _by_unit(reads: Tensor, units: int) -> Tensor:
    """The weights (out, in, *) that read a layer as (out, units, *): each unit's inputs lie together."""
    return reads.unflatten(1, (units, reads.shape[1] // units))


def _permuted(params: Params, layer: Layer, after: Layer, order: Tensor) -> Params:
    reads, units = params[after.weight], len(order)
    found = {
        layer.weight: params[layer.weight][order],
        after.weight: _by_unit(reads, units)[:, order].reshape(reads.shape),
    }
    return found if layer.bias is None else {**found, layer.bias: params[layer.bias][order]}


def balanced(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Factors A = √S Vᵀ (r, in) and B = U √S (out, r) of the product B A = U S Vᵀ, of which neither is larger than the other."""
    left, small_b = torch.linalg.qr(
        b
    )  # the product has rank r: its decomposition is that of an (r, r) matrix
    right, small_a = torch.linalg.qr(a.mT)
    u, singular, vt = torch.linalg.svd(small_b @ small_a.mT)
    root = singular.sqrt()
    return root[:, None] * (vt @ right.mT), (left @ u) * root


def _align_pairs(params: Params, like: Params, pairs: list[tuple[str, str]]) -> Params:
    with needs("train"):
        from scipy.optimize import linear_sum_assignment

    found: Params = {}
    for name_a, name_b in pairs:
        a, b = balanced(params[name_a], params[name_b])
        like_a, like_b = balanced(like[name_a], like[name_b])
        similar = like_a @ a.T + like_b.T @ b  # (r of the reference, r)
        rows, order = linear_sum_assignment(similar.abs().numpy(), maximize=True)
        signs = torch.where(similar[rows, order] < 0, -1.0, 1.0).to(a.dtype)
        found |= {name_a: signs[:, None] * a[order], name_b: b[:, order] * signs}
    return found


def product_difference(space: WeightSpace, one: Tensor, other: Tensor) -> float:
    """How far the product of halfway LoRA factors is from halfway between the products, relative to these; 0 where there are no pairs."""
    pairs = find_symmetries(space).pairs
    first, second, middle = (space.unflatten(w.double()) for w in (one, other, (one + other) / 2))
    gap = total = 0.0
    for a, b in pairs:
        wanted = (first[b] @ first[a] + second[b] @ second[a]) / 2
        gap += (middle[b] @ middle[a] - wanted).square().sum().item()
        total += wanted.square().sum().item()
    return (gap / total) ** 0.5 if total else 0.0


def output_difference(run: Callable[[Tensor], Tensor], one: Tensor, other: Tensor) -> float:
    """How far the outputs of the network halfway between two are from halfway between their outputs, relative to these.

    Args:
        run: weights (P,) → outputs, on whatever inputs.
        one: weights (P,).
        other: weights (P,).
    """
    wanted = (run(one) + run(other)) / 2
    return ((run((one + other) / 2) - wanted).norm() / wanted.norm().clamp_min(1e-12)).item()
