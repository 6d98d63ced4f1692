"""HVAE: a variational autoencoder of adapted weights, whose decoder is the hypernetwork.

Notation: w weights (P), z latent (Z), q(z | w) the encoder's posterior, h the decoder.
"""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from weightgen.errors import InputError, check_sizes
from weightgen.hypernets.saving import SPACE_CODER
from weightgen.nn import large
from weightgen.nn.mlp import kaiming_mlp
from weightgen.nn.standardizer import Standardizer
from weightgen.storage.hub import SavedModule
from weightgen.weights import WeightSpace


class HVAE(nn.Module, SavedModule, coders=SPACE_CODER):
    """q(z | w) = N(μ, σ²) with (μ, log σ² + 1) = MLP(ŵ) + A ŵ, and h(z) = unstandardise(MLP(z) + B z).

    ŵ are the weights, standardised with statistics kept as buffers. The linear paths A and B (not in the
    paper) start as the principal components of the adapted weights, so that training begins at the best
    linear autoencoder.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 3.2
        and appendix A.3 (hidden layers 512, 256; latent of 32). The "+ 1" is the released code's: it starts σ
        at e^(-1/2).

    Args:
        space: the weight space of the base network.
        latent_dim: Z.
        hidden_dims: widths of the encoder's hidden layers; the decoder has them in reverse.
        linear: whether there are linear paths beside the MLPs.
    """

    def __init__(
        self,
        space: WeightSpace,
        latent_dim: int = 32,
        hidden_dims: Sequence[int] = (512, 256),
        linear: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim, hidden_dims=hidden_dims)
        self.space = space
        self.latent_dim = latent_dim
        self.standardizer = Standardizer(space.size)
        self.encoder = kaiming_mlp([space.size, *hidden_dims, 2 * latent_dim])
        self.decoder = kaiming_mlp([latent_dim, *reversed(hidden_dims), space.size])
        self.encoder_path = nn.Linear(space.size, latent_dim, bias=False) if linear else None
        self.decoder_path = nn.Linear(latent_dim, space.size, bias=False) if linear else None

    @torch.no_grad()
    def fit(self, values: large.Rows, per_layer: bool = False) -> Self:
        """Take the statistics of adapted weights (M, P), M > Z, and their principal components for the linear paths.

        Directions are scaled so that every latent dimension has variance 1 over `values`.

        Args:
            values: with shape (M, P), in memory or on disk.
            per_layer: whether each layer has a standard deviation of its own; by default all have one, and the weights' own geometry
                is kept.

        Raises:
            InputError: too few weights, or more latent dimensions than a weight vector has numbers.
        """
        if self.encoder_path is not None and not self.latent_dim < min(len(values), self.space.size + 1):
            raise InputError(
                f"{self.latent_dim} principal components need more than {self.latent_dim} weight vectors, at least as long, "
                f"got shape {tuple(values.shape)}: write a smaller latent_dim, or give more weights"
            )
        layers = [math.prod(shape) for _, shape in self.space.shapes] if per_layer else None
        self.standardizer.fit(values, scalar=not per_layer, groups=layers)
        if self.encoder_path is None or self.decoder_path is None:
            return self
        # Without directions to spare, the last of those that are kept would be found badly (Halko et al., 2011, section 4.2).
        spare = min(self.latent_dim + 16, *values.shape)
        if large.is_large(values):
            singular, directions = large.svd_in_batches(values, self.standardizer, spare)
        else:
            _, singular, directions = torch.svd_lowrank(self.standardizer(values[:]), q=spare, niter=4)
        directions = directions[:, : self.latent_dim]
        spread = (singular[: self.latent_dim] / len(values) ** 0.5).clamp_min(1e-6)
        self.encoder_path.weight.copy_(directions.T / spread[:, None])
        self.decoder_path.weight.copy_(directions * spread)
        for network in (self.encoder, self.decoder):
            network[-1].weight.zero_()  # type: ignore[operator]
        return self

    def encode(self, weights: Tensor) -> Normal:
        """The posterior q(z | w).

        Args:
            weights: with shape (*, P).

        Returns:
            A normal distribution over latents, with shape (*, Z).
        """
        scaled = self.standardizer(weights)
        mean, log_variance = self.encoder(scaled).chunk(2, dim=-1)
        if self.encoder_path is not None:
            mean = mean + self.encoder_path(scaled)
        # Not validated: NaN goes on to the loss, where training names the tasks.
        return Normal(mean, ((log_variance - 1) / 2).exp(), validate_args=False)

    def initial_latents(self, embeds: Tensor) -> Tensor:
        """The latents (B, Z) from which adaptation starts: the mean 0 of the prior N(0, I)."""
        return embeds.new_zeros(len(embeds), self.latent_dim)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """The parameters of the decoder with its linear path."""
        paths = () if self.decoder_path is None else tuple(self.decoder_path.parameters())
        return [*self.decoder.parameters(), *paths]

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents into weights.

        Args:
            latents: with shape (*, Z).

        Returns:
            Weights, with shape (*, P).
        """
        scaled = self.decoder(latents)
        if self.decoder_path is not None:
            scaled = scaled + self.decoder_path(latents)
        return self.standardizer.inverse(scaled)
