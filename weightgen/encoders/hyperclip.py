"""HyperCLIP: an encoder of weights that lands where CLIP puts the question which the weights answer.

Notation: B tasks, K questions, P weights, E embedding.
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.nn.large import Rows
from weightgen.nn.standardizer import Standardizer
from weightgen.storage.hub import SavedModule

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "softplus": nn.Softplus}


class HyperCLIP(nn.Module, SavedModule):
    """H(w) = MLP(w), compared by cosine with the embeddings of questions.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.1
        and appendix A.6 (one hidden layer of 256, tanh). The released code has softplus, and can standardise
        the weights.

    Args:
        weights: P.
        embed_dim: E.
        hidden_dims: widths of the hidden layers.
        activation: the paper's "tanh" or the released code's "softplus".
        standardize: shift and scale weights and embeddings by statistics that `fit` takes. CLIP's embeddings
            of questions all point nearly one way; without it most of every cosine is the same for all
            questions.
        noise: standard deviation of the noise on standardised weights in training; 0 as in the paper.

    Raises:
        InputError: another activation, or noise without standardised weights.
    """

    def __init__(
        self,
        weights: int,
        embed_dim: int,
        hidden_dims: Sequence[int] = (256,),
        activation: Literal["tanh", "softplus"] = "tanh",
        standardize: bool = False,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(1, 10**9, weights=weights)
        check_sizes(embed_dim=embed_dim, hidden_dims=hidden_dims)
        check_range(noise=noise)
        if activation not in ACTIVATIONS:
            raise InputError(f"expected activation to be one of {sorted(ACTIVATIONS)}, got {activation!r}")
        if noise and not standardize:
            raise InputError("noise is in standard deviations of the weights: give standardize=True with it")
        self.noise = noise
        self.weights = Standardizer(weights) if standardize else None
        self.embeds = Standardizer(embed_dim) if standardize else None
        dims = [weights, *hidden_dims]
        layers = [
            part
            for a, b in zip(dims, dims[1:], strict=False)
            for part in (nn.Linear(a, b), ACTIVATIONS[activation]())
        ]
        self.mlp = nn.Sequential(*layers, nn.Linear(dims[-1], embed_dim))

    def fit(self, weights: Rows, embeds: Tensor, layers: Sequence[int] | None = None) -> Self:
        """Take statistics of weights (*, P) and embeddings (*, E), if standardising; `layers` are sizes of parts with a scale each."""
        if self.weights is not None and self.embeds is not None:
            self.weights.fit(weights, scalar=layers is None, groups=layers)
            self.embeds.fit(embeds)
        return self

    def forward(self, weights: Tensor) -> Tensor:
        """Embed weights, (*, P) → (*, E), with length 1."""
        inputs = weights if self.weights is None else self.weights(weights)
        if self.training and self.noise:
            inputs = inputs + self.noise * torch.randn_like(inputs)
        return nn.functional.normalize(self.mlp(inputs), dim=-1)

    def project_text(self, embeds: Tensor) -> Tensor:
        """Where the weights for a question should land: its embedding, (*, E), standardised if weights are, with length 1."""
        return nn.functional.normalize(embeds if self.embeds is None else self.embeds(embeds), dim=-1)

    def similarity(self, weights: Tensor, embeds: Tensor) -> Tensor:
        """Infer tasks: the cosine of B weight vectors (B, P) with K candidate questions (K, E), with shape (B, K)."""
        return self(weights) @ self.project_text(embeds).mT
