"""The prior of a hypernetwork that reads questions: the latent of a question is its embedding, and nothing is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from weightgen.errors import check_range, check_sizes
from weightgen.nn.standardizer import Standardizer
from weightgen.protocols import Denoiser
from weightgen.storage.hub import SavedModule


class PointPrior(nn.Module, SavedModule):
    """p(z | e) as a point: z = e, which makes a conditional hypernetwork such as `HNet` usable by `WeightPipeline`.

    It is a diffusion of one step, whose denoiser knows the standardised z₀ at once: (e − μ) / σ for a question, and 0, the mean
    question, for none. So classifier-free guidance at scale s gives z = μ + s (e − μ). All samples of a question are equal.

    Args:
        embed_dim: E, the length of a question's embedding; the latents are as long.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 5.2 (Cond. Multitask).
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim)
        self.latent_dim = embed_dim
        self.part_dims = (embed_dim,)
        self.latents = Standardizer(embed_dim)

    @property
    def denoiser(self) -> PointPrior:
        """What predicts the standardised latents: this prior itself."""
        return self

    def fit(self, embeds: Tensor) -> PointPrior:
        """Take μ and σ of the questions of the training tasks, with shape (M, E)."""
        self.latents.fit(embeds)
        return self

    def forward(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
        """Predict the standardised z₀.

        Args:
            latents: not looked at, with shape (B, E).
            times: not looked at, with shape (B,).
            embeds: questions, with shape (B, E); a row of zeros means "no question".

        Returns:
            Standardised latents, with shape (B, E).
        """
        asked = embeds.any(dim=-1, keepdim=True)
        return torch.where(asked, self.latents(embeds), torch.zeros_like(embeds))

    @torch.no_grad()
    def sample(
        self,
        embeds: Tensor,
        *,
        num_inference_steps: int = 1,
        generator: Sequence[Generator] | Generator | None = None,
        guide: Callable[[Denoiser], Denoiser] | None = None,
        temperature: float = 1.0,
        on_step: Callable[[int, Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The latent of each embedding.

        Args:
            embeds: with shape (B, E).
            num_inference_steps: not needed; at least 1, as for a `DiffusionPrior`.
            generator: not needed, because nothing is drawn.
            guide: turns the denoiser into a guided one, e.g. `lambda d: ClassifierFreeGuidance(d, 1.5)`.
            temperature: not needed; at least 0, as for a `DiffusionPrior`.
            on_step: see `DiffusionPrior.sample`; called once.

        Returns:
            Latents, with shape (B, E).

        Raises:
            InputError: a number of steps or a temperature that no prior takes.
        """
        check_range(temperature=temperature)
        check_sizes(num_inference_steps=num_inference_steps)
        denoiser: Denoiser = guide(self) if guide else self
        start, time = torch.zeros_like(embeds), embeds.new_zeros(())
        z = denoiser(start, time.expand(len(embeds)), embeds)
        return self.latents.inverse(z if on_step is None else on_step(0, time, z))
