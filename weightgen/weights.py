"""Named parameters of a network ↔ one flat vector, the only currency between the parts of this library.

Notation: B tasks, K networks for one task, N examples, C classes, P weights, `*` any leading dimensions.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from glob import escape
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
        if len({name for name, _ in pairs}) < len(pairs) or any(n < 0 for _, shape in pairs for n in shape):
            raise InputError("expected parameters of different names, with shapes of numbers from 0 up")
        object.__setattr__(self, "shapes", pairs)

    @classmethod
    def of(
        cls, module: nn.Module, include: Sequence[str] | str = "*", exclude: Sequence[str] | str = ()
    ) -> Self:
        """The space of the parameters of `module` that are generated; tied parameters count once, under their first name.

        Args:
            module: any module.
            include: patterns of names such as "head.*", in which * stands for anything; a parameter is generated if it matches one.
            exclude: patterns of parameters that are not generated all the same.

        Raises:
            InputError: a pattern fits no parameter, nothing is left, some names of a tied parameter fit and others do not, a generated
                parameter is no floating-point tensor, or a layer with generated parameters keeps running statistics.
        """
        chosen = _chosen(module, _as_patterns(include), _as_patterns(exclude))
        for name, part in module.named_modules():
            inside = {f"{name}.{own}" if name else own for own, _ in part.named_parameters(recurse=False)}
            keeps = getattr(part, "running_mean", None) is not None
            if keeps and (inside & chosen.keys() or chosen.keys() == dict(module.named_parameters()).keys()):
                raise InputError(
                    f"layer {name!r} ({type(part).__name__}) keeps running statistics, which no weight "
                    "vector can hold: write track_running_stats=False, or use GroupNorm"
                )
        for name, parameter in chosen.items():
            if isinstance(parameter, nn.UninitializedParameter) or not parameter.is_floating_point():
                raise InputError(
                    f"parameter {name!r} is {'not initialised' if isinstance(parameter, nn.UninitializedParameter) else parameter.dtype}: "
                    "expected floating-point numbers of a known shape; call the module once, or leave it out with exclude"
                )
        return cls(tuple((name, tuple(parameter.shape)) for name, parameter in chosen.items()))

    @classmethod
    def from_json(cls, pairs: Any) -> Self:
        """The inverse of `to_json`.

        Raises:
            InputError: `pairs` is not what `to_json` returns.
        """
        try:
            return cls(tuple((name, tuple(shape)) for name, shape in pairs))
        except (TypeError, ValueError, OverflowError) as error:
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


def _as_patterns(patterns: Sequence[str] | str) -> list[str]:
    found = [patterns] if isinstance(patterns, str) else list(patterns)
    if wrong := [pattern for pattern in found if not isinstance(pattern, str)]:
        raise InputError(f'expected patterns of names such as "head.*", got {wrong[0]!r:.60}')
    return found


def _chosen(module: nn.Module, include: list[str], exclude: list[str]) -> dict[str, nn.Parameter]:
    """The parameters whose names fit, by their first name."""
    every = list(module.named_parameters(remove_duplicate=False))
    if not every:
        raise InputError(f"{type(module).__name__} has no parameters, so no weights to generate")
    for pattern in include + exclude:
        if not any(fnmatchcase(name, pattern) for name, _ in every):
            names = ", ".join(name for name, _ in every[:4])
            raise InputError(
                f"no parameter of {type(module).__name__} fits {pattern!r}: its parameters are {names}"
                + (", …" if len(every) > 4 else "")
            )
    fits = {
        name: any(fnmatchcase(name, one) for one in include)
        and not any(fnmatchcase(name, one) for one in exclude)
        for name, _ in every
    }
    first = {id(parameter): name for name, parameter in reversed(every)}
    for name, parameter in every:
        if fits[name] != fits[other := first[id(parameter)]]:
            raise InputError(
                f"parameters {other!r} and {name!r} are one tied tensor: include both of them, or neither"
            )
    chosen = {name: parameter for name, parameter in module.named_parameters() if fits[name]}
    if not chosen:
        raise InputError(
            f"include={include} and exclude={exclude} leave no parameter of {type(module).__name__} to generate"
        )
    return chosen


class FunctionalNetwork:
    """A network as a function of its weights: f(w, inputs, **context), run for many tasks at once.

    It is not an `nn.Module`, so that a loss or hypernetwork that holds one neither trains nor saves the
    network's own parameters, and data parallelism does not see them.

    Args:
        module: any `nn.Module` with forward(inputs, **context) → outputs; it is frozen.
        include: which parameters are generated, see `WeightSpace.of`. All tasks share the others, and the buffers. Frozen layers
            with running statistics use them (`eval()`) and do not change them.
        exclude: see `WeightSpace.of`.

    Attributes:
        module: the network. Its own parameters are the initial weights; those that are generated are read by nothing else.
        space: the order of the generated parameters in a weight vector.

    Raises:
        InputError: see `WeightSpace.of`.
    """

    def __init__(
        self, module: nn.Module, include: Sequence[str] | str = "*", exclude: Sequence[str] | str = ()
    ) -> None:
        self.space = WeightSpace.of(module, include, exclude)
        self.module = module.requires_grad_(False)
        for part in module.modules():
            if getattr(part, "running_mean", None) is not None:
                part.eval()

    @classmethod
    def of_space(cls, module: nn.Module, space: WeightSpace) -> Self:
        """The network whose parameters in `space` are generated: what a saved hypernetwork and a saved module say together.

        Raises:
            InputError: the module lacks a parameter of that name and shape.
        """
        own = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
        for name, shape in space.shapes:
            if own.get(name) != shape:
                has = f"has shape {own[name]}" if name in own else "is not there"
                raise InputError(
                    f"the hypernetwork writes weights of another network than {type(module).__name__}: parameter {name!r} should "
                    f"have shape {shape}, but {has}"
                )
        made = cls(module, [escape(name) for name, _ in space.shapes])
        made.space = space  # in the order that the hypernetwork learned
        return made

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
