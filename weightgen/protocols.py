"""The contracts between the parts of this library: the file to read first.

A method is a way to fill in one arrow; flat weights are the only currency between them.

    description ─ Encoder ─► embeds ─ Prior ─► latents ─ Hypernetwork ─► weights ─ WeightSpace ─► logits

Notation used for shapes everywhere, and for nothing else:

    B tasks   N examples   C classes   P weights   Z latent   E embedding   `*` any leading dimensions

A base network has no contract of its own: it is any `nn.Module` with forward(inputs, **context) → logits.
The contracts are about behaviour: a class fulfils one without inheriting from it, and all but `Encoder`
are modules, called as `module(...)`. Guidance wraps what it guides and is one: a guided `Denoiser` is a
`Denoiser`, a guided `Prior` is a `Prior`.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from PIL import Image
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


@runtime_checkable
class Encoder(Protocol):
    """Images, statements and questions → embeddings, not normalised; frozen.

    Images and statements (answers in their templates) share a space where a base network compares them, as
    `CLIPAdapter` does; questions may have a length of their own. A class that inherits from this one gets
    `question_dim` and `encode_questions` of an encoder that embeds questions as it does statements.

    Attributes:
        name: fit for a folder name.
        digest: identifies the weights and all that decides what the embeddings are.
        image_dim: E of images.
        text_dim: E of statements.
    """

    name: str
    digest: str
    image_dim: int
    text_dim: int

    @property
    def question_dim(self) -> int:
        """E of questions."""
        return self.text_dim

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Embed N images, as (N, image_dim)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed N statements, as (N, text_dim)."""
        ...

    def encode_questions(self, texts: Sequence[str]) -> Tensor:
        """Embed N questions, as (N, question_dim)."""
        return self.encode_texts(texts)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write all that `from_pretrained` needs, with `encoder.json` naming the class."""
        ...

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str], *, device: str | torch.device = "cpu") -> Self:
        """Read what `save_pretrained` wrote."""
        ...


class Objective(Protocol):
    """A whole training loss as one module: distributed training sees only what happens in `forward`."""

    def __call__(self, batch: TaskBatch) -> Outcome: ...
