"""FiLM as a hypernetwork: one network for all tasks; its features are scaled and shifted by the question.

Notation: P weights, E embedding, F features of all modulated layers together.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.hypernets.saving import SPACE_CODER
from weightgen.nn.mlp import kaiming_mlp
from weightgen.nn.standardizer import Standardizer
from weightgen.storage.hub import SavedModule
from weightgen.weights import WeightSpace


class FiLM(nn.Module, SavedModule, coders=SPACE_CODER):
    """Features y = W x + b become (1 + γ) ⊙ y + β, with (γ, β) = MLP(standardised c + σ noise).

    W and b are shared by all tasks. This equals weights (1 + γ) ⊙ W and (1 + γ) ⊙ b + β, where γ scales rows,
    so FiLM is a hypernetwork. W and b are learned together with the MLP, which writes 2F numbers where the
    MLP of `HNet` writes P.

    References:
        Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", 2018, section 2 (modulation
        before the nonlinearity); a baseline, "Cond. Multitask FiLM", of Nava, Kobayashi et al.,
        "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023. Their code for it is not published;
        the choice of layers is ours.

    Args:
        space: the weight space of the base network.
        input_dim: E.
        hidden_dims: widths of the hidden layers of the MLP.
        input_noise: σ, in standard deviations of the condition, in training.
        layers: names of the layers to modulate; by default all that have both a weight matrix, or kernel, and
            a bias.

    Raises:
        InputError: no such layer.
    """

    def __init__(
        self,
        space: WeightSpace,
        input_dim: int,
        hidden_dims: Sequence[int] = (256,),
        input_noise: float = 0.0,
        layers: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_sizes(input_dim=input_dim, hidden_dims=hidden_dims)
        check_range(input_noise=input_noise)
        self.space = space
        self.input_noise = input_noise
        shapes = dict(space.shapes)
        able = {
            name.removesuffix(".weight"): shape[0]
            for name, shape in space.shapes
            if len(shape) > 1 and name.removesuffix("weight") + "bias" in shapes
        }
        chosen = list(able) if layers is None else list(layers)
        if not chosen or not set(chosen) <= able.keys():
            raise InputError(f"FiLM can modulate layers with weights and biases, {list(able)}; got {chosen}")
        self.features = {name: able[name] for name in chosen}
        self.condition = Standardizer(input_dim)
        self.base = nn.Parameter(torch.zeros(space.size))
        self.mlp = kaiming_mlp([input_dim, *hidden_dims, 2 * sum(self.features.values())])

    def fit(self, values: Tensor) -> Self:
        """Take the statistics of embeddings, with shape (M, E)."""
        self.condition.fit(values)
        return self

    @torch.no_grad()
    def init_weights(self, weights: Tensor) -> Self:
        """Write `weights`, with shape (P,), for every condition: γ = β = 0."""
        self.base.copy_(weights)
        for parameter in self.mlp[-1].parameters():
            parameter.zero_()
        return self

    def forward(self, condition: Tensor) -> Tensor:
        """Write weights.

        Args:
            condition: with shape (*, E).

        Returns:
            Weights, with shape (*, P).
        """
        inputs = self.condition(condition)
        if self.training and self.input_noise:
            inputs = inputs + self.input_noise * torch.randn_like(inputs)
        gammas, betas = (
            part.split(list(self.features.values()), dim=-1) for part in self.mlp(inputs).chunk(2, dim=-1)
        )
        shared = self.space.unflatten(self.base)
        params = {name: value.expand(*condition.shape[:-1], *value.shape) for name, value in shared.items()}
        for name, gamma, beta in zip(self.features, gammas, betas, strict=True):
            weight = shared[f"{name}.weight"]
            rows = (1 + gamma).reshape(*gamma.shape, *[1] * (weight.ndim - 1))
            params[f"{name}.weight"] = rows * weight
            params[f"{name}.bias"] = (1 + gamma) * shared[f"{name}.bias"] + beta
        return self.space.flatten(params)
