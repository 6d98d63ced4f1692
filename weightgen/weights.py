"""Named parameters of a network ↔ one flat vector, the only currency between the parts of this library.

Notation: B tasks, K networks for one task, N examples, C classes, P weights, `*` any leading dimensions.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from weightgen.errors import InputError


@dataclass(frozen=True)
class WeightSpace:
    """The order and the shapes in which the parameters of a network lie in a flat vector of P numbers.

    Args:
        shapes: pairs of a parameter's name and its shape. Not a dictionary, because JSON writers that sort
            the keys would silently permute the vector.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    def __post_init__(self) -> None:
        # JSON has lists only: after this, a space that was saved and loaded equals the original.
        pairs = tuple((str(name), tuple(int(n) for n in shape)) for name, shape in self.shapes)
        object.__setattr__(self, "shapes", pairs)

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """The space of all parameters of `module`; tied parameters count once.

        Raises:
            InputError: the module has no parameters, or keeps running statistics.
        """
        for name, part in module.named_modules():
            if getattr(part, "running_mean", None) is not None:
                raise InputError(
                    f"layer {name!r} ({type(part).__name__}) keeps running statistics, which no weight "
                    "vector can hold: write track_running_stats=False, or use GroupNorm"
                )
        shapes = tuple((name, tuple(p.shape)) for name, p in module.named_parameters())
        if not shapes:
            raise InputError(f"{type(module).__name__} has no parameters, so no weights to generate")
        return cls(shapes)

    @classmethod
    def from_json(cls, pairs: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: `pairs` is not what `to_json` returns.
        """
        try:
            return cls(tuple((name, tuple(shape)) for name, shape in pairs))
        except (TypeError, ValueError) as error:
            raise InputError(f"expected a list of [name, shape] pairs, got {pairs!r:.80}") from error

    def to_json(self) -> list[list[Any]]:
        """The pairs as nested lists, ready for `json.dumps`."""
        return [[name, list(shape)] for name, shape in self.shapes]

    @cached_property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """Join parameters of shape (*, *shape) into one vector.

        Returns:
            The flat vectors, with shape (*, P).

        Raises:
            InputError: a parameter is missing or has another shape.
        """
        parts = []
        for name, shape in self.shapes:
            if name not in params:
                raise InputError(f"no parameter {name!r} among {sorted(params)}")
            value = params[name]
            lead = value.ndim - len(shape)
            if lead < 0 or tuple(value.shape[lead:]) != shape:
                raise InputError(f"parameter {name!r} needs shape (*, {shape}), got {tuple(value.shape)}")
            parts.append(value.reshape(*value.shape[:lead], math.prod(shape)))
        return torch.cat(parts, dim=-1)

    def unflatten(self, weights: Tensor) -> dict[str, Tensor]:
        """Cut flat vectors of shape (*, P) into parameters: views of shape (*, *shape) by name.

        Raises:
            InputError: the last dimension is not P.
        """
        if weights.ndim == 0 or weights.shape[-1] != self.size:
            raise InputError(f"expected weights of shape (*, {self.size}), got {tuple(weights.shape)}")
        parts = weights.split([math.prod(shape) for _, shape in self.shapes], dim=-1)
        lead = weights.shape[:-1]
        return {
            name: part.reshape((*lead, *shape))
            for (name, shape), part in zip(self.shapes, parts, strict=True)
        }

    def state_dict(self, weights: Tensor) -> dict[str, Tensor]:
        """Parameters of their own memory, cut from `weights` of shape (P,)."""
        return {name: value.detach().clone() for name, value in self.unflatten(weights).items()}


class FunctionalNetwork:
    """A network as a function of its weights: f(w, inputs, **context), run for many tasks at once.

    It is not an `nn.Module`, so that a loss or hypernetwork that holds one neither trains nor saves the
    network's own parameters, and data parallelism does not see them.

    Args:
        module: any `nn.Module` with forward(inputs, **context) → outputs; it is frozen.

    Attributes:
        module: the network. Its own parameters are the initial weights, and nothing else reads them.
        space: the order of its parameters in a weight vector.

    Raises:
        InputError: see `WeightSpace.of`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.requires_grad_(False)
        self.space = WeightSpace.of(module)

    def __repr__(self) -> str:
        return f"FunctionalNetwork({type(self.module).__name__}, P={self.space.size})"

    def to(self, device: torch.device | str) -> Self:
        """Move the network, with its buffers, to a device."""
        self.module.to(device)
        return self

    @property
    def initial_weights(self) -> Tensor:
        """The network's own parameters as a weight vector, with shape (P,)."""
        return self.space.flatten(dict(self.module.named_parameters())).detach()

    def single(self, weights: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Run one network with `weights` of shape (P,) on the inputs of one task."""
        return functional_call(self.module, self.space.unflatten(weights), args, kwargs)

    def __call__(
        self, weights: Tensor, inputs: Tensor, chunk_size: int | None = None, /, **context: Tensor
    ) -> Tensor:
        """Run one network per task, each with weights, inputs and context of its own.

        Args:
            weights: with shape (B, P), or (B, K, P) for K networks on the inputs of each task.
            inputs: examples, with shape (B, N, *).
            chunk_size: tasks run at once; fewer need less memory.
            **context: further inputs of the network, with shape (B, ...).

        Returns:
            The outputs of the network, with shape (B, N, C) or (B, K, N, C).
        """

        def one(w: Tensor, x: Tensor, extra: dict[str, Tensor]) -> Tensor:
            return self.single(w, x, **extra)

        if weights.ndim == 3:
            one = vmap(one, in_dims=(0, None, None), randomness="different")
        return vmap(one, randomness="different", chunk_size=chunk_size)(weights, inputs, context)

    def with_weights(self, weights: Tensor) -> nn.Module:
        """A copy of the module that holds `weights` of shape (P,); the original stays as it is."""
        filled = copy.deepcopy(self.module)
        with torch.no_grad():
            for name, value in self.space.unflatten(weights).items():
                filled.get_parameter(name).copy_(value)
        return filled
