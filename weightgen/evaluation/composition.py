"""Ways of making one network of two questions, for a comparison.

Notation: B pairs of tasks, K samples, E embedding of a question, Z latent, P weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.priors import null_embeds
from weightgen.protocols import Denoiser

Pairs = tuple[MetaVQATasks, MetaVQATasks]
"""B first and B second tasks."""


@dataclass
class SumOfGuidances:
    """ε = ε_∅ + s (ε_a − ε_∅) + s (ε_b − ε_∅): two questions a and b guide at once. A `Denoiser` around a `Denoiser`.

    References:
        Liu et al., "Compositional Visual Generation with Composable Diffusion Models", 2022, equation 11.

    Attributes:
        denoiser: a denoiser trained with conditioning dropout.
        other: embeddings of the questions b, with shape (B, E).
        scale: s.
    """

    denoiser: Denoiser
    other: Tensor
    scale: float

    def __call__(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
        """Predict the noise, with shapes (B, Z), (B,), (B, E) → (B, Z), in one batch of 3 B rows."""
        rows = torch.cat([null_embeds(embeds), embeds, self.other])
        nothing, first, second = self.denoiser(latents.repeat(3, 1), times.repeat(3), rows).chunk(3)
        return nothing + self.scale * (first - nothing) + self.scale * (second - nothing)


@dataclass
class PairSampler:
    """Samples K networks for each of B pairs; all ways start from the same noise.

    Attributes:
        pipe: samples weights.
        num_samples: K.
        seed: of the noise.
    """

    pipe: WeightPipeline
    num_samples: int = 4
    seed: int = 0

    def sample(self, embeds: Tensor, scale: float, **more: Any) -> tuple[Tensor, Tensor]:
        """Weights (B, K, P) and latents (B, K, Z) of questions (B, E)."""
        streams = [Generator().manual_seed(self.seed * 1_000_003 + row) for row in range(len(embeds))]
        how = {"num_samples": self.num_samples, "guidance_scale": scale, "generator": streams}
        return self.pipe.sample(embeds, **how, **more)  # type: ignore[arg-type]

    def each(self, pairs: Pairs, scale: float) -> list[tuple[Tensor, Tensor]]:
        """Weights and latents of the first and of the second question."""
        return [self.sample(part.embeds, scale) for part in pairs]

    def alone(self, pairs: Pairs, scale: float) -> Tensor:
        """The first question, for comparison."""
        return self.sample(pairs[0].embeds, scale)[0]

    def unconditional(self, pairs: Pairs, scale: float) -> Tensor:
        """No question, for comparison."""
        return self.sample(pairs[0].embeds, 0.0)[0]

    def one_text(self, pairs: Pairs, scale: float) -> Tensor:
        """Both questions as one text."""
        texts: Sequence[str] = [
            f"{a} {b}" for a, b in zip(pairs[0].questions, pairs[1].questions, strict=True)
        ]
        return self.sample(self.pipe.encoder.encode_questions(texts).clone(), scale)[0]

    def mean_embedding(self, pairs: Pairs, scale: float) -> Tensor:
        """The mean of the two embeddings."""
        return self.sample((pairs[0].embeds + pairs[1].embeds) / 2, scale)[0]

    def mean_latent(self, pairs: Pairs, scale: float) -> Tensor:
        """The mean of the two latents, decoded."""
        return self.pipe.decode(torch.stack([latents for _, latents in self.each(pairs, scale)]).mean(dim=0))

    def mean_weights(self, pairs: Pairs, scale: float) -> Tensor:
        """The mean of the two weight vectors."""
        return torch.stack([weights for weights, _ in self.each(pairs, scale)]).mean(dim=0)

    def sum_of_guidances(self, pairs: Pairs, scale: float) -> Tensor:
        """The sum of the two guidances."""
        other = pairs[1].embeds.repeat_interleave(self.num_samples, dim=0)
        return self.sample(pairs[0].embeds, 1.0, guide=lambda inner: SumOfGuidances(inner, other, scale))[0]

    @property
    def ways(self) -> dict[str, Callable[[Pairs, float], Tensor]]:
        """Name → (pairs, guidance scale) → weights (B, K, P)."""
        return {
            "first question alone": self.alone,
            "no question": self.unconditional,
            "both questions as one text": self.one_text,
            "mean of embeddings": self.mean_embedding,
            "mean of latents": self.mean_latent,
            "mean of weights": self.mean_weights,
            "sum of guidances": self.sum_of_guidances,
        }
