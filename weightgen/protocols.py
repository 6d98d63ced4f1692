"""The contracts between the parts of this library: the file to read first.

A method is a way to fill in one arrow; flat weights are the only currency between them.

    description ─ TextEncoder ─► embeds ─ Prior ─► latents ─ Hypernetwork ─► weights ─ WeightSpace ─► logits

Notation used for shapes everywhere, and for nothing else:

    B tasks   N examples   C classes   P weights   Z latent   E embedding   `*` any leading dimensions

A base network has no contract of its own: it is any `nn.Module` with forward(inputs, **context) → logits.
The contracts are about behaviour: a class fulfils one without inheriting from it, and all but `TextEncoder`
are modules, called as `module(...)`. Guidance wraps what it guides and is one: a guided `Denoiser` is a
`Denoiser`, a guided `Prior` is a `Prior`.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from weightgen.tasks import TaskBatch
from weightgen.weights import WeightSpace


class Outcome(NamedTuple):
    """What a training step yields.

    Attributes:
        loss: the scalar to differentiate.
        metrics: scalars to log by name, detached.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


class Hypernetwork(Protocol):
    """Condition → weights (*, P): the condition is a latent (*, Z), an embedding (*, E), or a support set."""

    space: WeightSpace

    def __call__(self, condition: Any) -> Tensor: ...


class LatentHypernetwork(Hypernetwork, Protocol):
    """A hypernetwork whose condition is a latent (*, Z)."""

    latent_dim: int


class WeightEncoder(Protocol):
    """Weights (*, P) → a vector, such as an embedding (*, E), or a distribution over latents (*, Z)."""

    def __call__(self, weights: Tensor) -> Any: ...


class Denoiser(Protocol):
    """Noisy latents (B, Z), integer times (B,), embeds (B, E) → what the scheduler's prediction type names: ε, z₀ or v, (B, Z)."""

    def __call__(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor: ...


class Prior(Protocol):
    """Embeds (B, E) → latents (B, Z), drawn with `generator`."""

    def sample(self, embeds: Tensor, *, generator: torch.Generator | None = None) -> Tensor: ...


class TextEncoder(Protocol):
    """N texts → embeds (N, E)."""

    def __call__(self, texts: list[str]) -> Tensor: ...


class Objective(Protocol):
    """A whole training loss as one module: distributed training sees only what happens in `forward`."""

    def __call__(self, batch: TaskBatch) -> Outcome: ...
