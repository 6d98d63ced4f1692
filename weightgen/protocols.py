"""The contracts between the parts of this library: the file to read first.

    question ─ Encoder ─► embeds ─ Prior ─► latents ─ LatentHypernetwork ─► weights ─ FunctionalNetwork ─►
    logits support set ─────────────────── SupportHypernetwork ─────────────────► weights

Weights travel as flat vectors. A method is a way to fill in one arrow.

Notation used for shapes everywhere, and for nothing else:

    B tasks   N examples   C classes   P weights   Z latent   E embedding   `*` any leading dimensions

A class fulfils a contract by its methods, without inheriting from it. All but `Encoder`, `Prior` and the
guided denoisers are `nn.Module`s. `tests/contracts/` runs every class of the library against its contract. A
base network has no contract of its own: any `nn.Module` with forward(inputs, **context) → logits becomes a
function of its weights by `weights.FunctionalNetwork`.

Guidance is a wrapper: a guided `Denoiser` is a `Denoiser`, a guided `Prior` is a `Prior`.
"""

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from weightgen.tasks import Examples, TaskBatch
from weightgen.weights import WeightSpace


class Outcome(NamedTuple):
    """What an objective returns.

    Attributes:
        loss: the scalar to differentiate.
        metrics: scalars to log by name, detached.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


class Hypernetwork(Protocol):
    """Condition (B, ·) → weights (B, P); the condition is the embedding of a task (E) or a latent (Z).

    `HNet`, `FiLM` and `HVAE` take any leading dimensions `*`. A class is built as Kind(space, input_dim,
    **options), with E or Z as input_dim; `SharedWeights` ignores it.
    """

    space: WeightSpace

    def __call__(self, condition: Tensor) -> Tensor: ...


class TaskHypernetwork(Hypernetwork, Protocol):
    """A hypernetwork that is trained on tasks from given initial weights: `SharedWeights`, `HNet`, `FiLM`."""

    def fit(self, values: Tensor) -> Self:
        """Take statistics of the embeddings of the training tasks, with shape (M, E)."""
        ...

    def init_weights(self, weights: Tensor) -> Self:
        """Begin at `weights`, with shape (P,)."""
        ...


class TaskSource(Protocol):
    """T tasks that are read in batches: `MetaVQATasks`, `StatementTasks`, `TaskList`, or a class of one's own.

    Attributes:
        questions: a text about each task; empty texts where there are none.
        embeds: embeddings of the texts, with shape (T, E).
        sizes: the number of examples of each task.
    """

    questions: list[str]
    sizes: list[int]

    @property
    def embeds(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def batch(self, tasks: Sequence[int] | Tensor | None = None, examples: int | None = None) -> TaskBatch:
        """The tasks with these numbers (B,), by default all; with at most so many examples of each set, drawn at random, of each."""
        ...


class WeightScore(Protocol):
    """A loss on what weights of a zoo do, of the user's own: weights (B, P) of tasks with numbers (B,) in the zoo → losses (B,).

    A class is built as Kind(zoo, **options). The zoo says names and shapes of the parameters (`zoo.space`), the text of each task
    (`zoo.tasks()`), and its weights (`zoo.at(draws, tasks)`). It must be differentiable with respect to the weights.
    """

    def __call__(self, weights: Tensor, tasks: Tensor) -> Tensor: ...


class LatentHypernetwork(Hypernetwork, Protocol):
    """A hypernetwork whose condition is a latent (*, Z): `HNet`, `HVAE`, `HVAEDecoder`.

    `HVAE.fit` takes statistics of adapted weights (M, P), which are what it encodes.
    """

    latent_dim: int

    def initial_latents(self, embeds: Tensor) -> Tensor:
        """Where the adaptation of latents starts, for B tasks with embeddings (B, E): latents (B, Z)."""
        ...

    def decoder_parameters(self) -> Iterable[nn.Parameter]:
        """The parameters between latents and weights, without an encoder of weights or a learned start."""
        ...


class SupportHypernetwork(Protocol):
    """Support sets of B tasks → weights (B, P). `SupportHNet` takes the answers (B, C, E) as context, those of a CNN take none.

    Those of a CNN (`hypernets.support_writer.SupportWriter`) have `generate` too. It returns a dictionary of
    parameters (B, *shape) in place of flat weights, because `ConvNet.run_batch` runs B networks as one
    convolution on them, several times as fast.
    """

    space: WeightSpace

    def __call__(self, support: Examples, *context: Tensor) -> Tensor: ...


class WeightEncoder(Protocol):
    """Weights (*, P) → embeddings (*, E) of the same length as a question's: `HyperCLIP`."""

    def __call__(self, weights: Tensor) -> Tensor: ...

    def project_text(self, embeds: Tensor) -> Tensor:
        """Where the weights for questions (*, E) should land, (*, E)."""
        ...


class Denoiser(Protocol):
    """Noisy latents (B, Z), integer times (B,), embeds (B, E) → what the scheduler's prediction type names: ε, z₀ or v, (B, Z)."""

    def __call__(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor: ...


class TrainedDenoiser(Denoiser, Protocol):
    """A denoiser that is no wrapper: it knows its sizes.

    Attributes:
        latent_dim: Z.
        part_dims: lengths of the parts of a condition, (E,) for questions or (E, D) for questions and support
            sets. A part of zeros means "not given".
    """

    latent_dim: int
    part_dims: tuple[int, ...]


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
    """A training loss as one module, because distributed training sees only what happens in `forward`.

    What a batch is differs: `AdaptationLoss`, `SupportSetLoss` and `EpisodicLoss` take a `TaskBatch`,
    `ELBOLoss` (weights, tasks), `ContrastiveLoss` (weights, embeds), `LatentDiffusionLoss` (latents, embeds,
    tasks or None).
    """

    def __call__(self, batch: Any) -> Outcome: ...
