"""Few-shot guidance: move the clean latent that a denoiser predicts towards latents whose networks fit a support set.

Notation: B tasks, K samples of each, Z latent, P weights. z_t = a z₀ + σ ε is the noisy latent, with a² + σ²
= 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from weightgen.adaptation import gradient_descent
from weightgen.errors import InputError, check_range, check_sizes
from weightgen.metrics import task_loss
from weightgen.priors import DiffusionPrior
from weightgen.priors.parametrisation import check_kind, from_clean, signal_and_noise, to_clean
from weightgen.protocols import Denoiser, LatentHypernetwork
from weightgen.tasks import Examples
from weightgen.weights import FunctionalNetwork

LatentLoss = Callable[..., Tensor]
"""(standardised latent (Z,), one task's data) → scalar."""


class FewShotGuidance:
    """ẑ₀ ← ẑ₀ − s σ² ∇ loss(ẑ₀), where ẑ₀ is the clean latent that the wrapped denoiser predicts. A `Denoiser` around a `Denoiser`.

    To first order this is the posterior mean under the likelihood exp(−s loss): σ² is the variance that z₀
    has, given z_t, where latents are standardised. The denoiser is not differentiated. With the mean loss of
    N examples as `loss`, s = N is Bayes' rule and s = 0 is no guidance. To combine with text, wrap the guided
    denoiser:

        def guide(denoiser):
            guided = ClassifierFreeGuidance(denoiser, 1.5)
            return FewShotGuidance.of_support(guided, prior, hypernet, network, support, context, 20.0)

        latents = prior.sample(embeds, guide=guide)

    References:
        Dhariwal & Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021, section 4 (classifier
        guidance); Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023
        (few-shot guidance is in their code alone, this form of it is ours).

    Args:
        denoiser: the denoiser to guide.
        prior: gives the noise schedule and the prediction type.
        loss: (standardised latent (Z,), one task's data) → scalar.
        data: tensors, or tuples and dictionaries of tensors, each with a leading dimension B.
        scale: s.
        samples: K, the number of latents of each task, which lie next to each other in the batch.

    Raises:
        InputError: no samples, or a prediction type that is not known.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        prior: DiffusionPrior,
        loss: LatentLoss,
        *data: Any,
        scale: float,
        samples: int = 1,
    ) -> None:
        self.kind = check_kind(prior.scheduler)
        check_sizes(samples=samples)
        check_range(-math.inf, scale=scale)
        self.denoiser = denoiser
        self.scheduler = prior.scheduler
        self.loss = loss
        self.data = _repeated(data, samples)
        self.rows = _rows(self.data)
        self.scale = scale

    @classmethod
    def of_support(
        cls,
        denoiser: Denoiser,
        prior: DiffusionPrior,
        hypernet: LatentHypernetwork,
        network: FunctionalNetwork,
        support: Examples,
        context: dict[str, Tensor],
        scale: float,
        samples: int = 1,
    ) -> FewShotGuidance:
        """Guidance by the mean cross-entropy of the support sets of B tasks, with `context` as the base network takes it."""

        def loss(latent: Tensor, examples: Examples, extra: dict[str, Tensor]) -> Tensor:
            weights = hypernet(prior.latents.inverse(latent))
            return task_loss(network.single(weights, examples.inputs, **extra), examples.labels)

        return cls(denoiser, prior, loss, support, context, scale=scale, samples=samples)

    def __call__(self, latents: Tensor, times: Tensor, embeds: Tensor) -> Tensor:
        """Predict as the wrapped denoiser does, guided, with shapes (B·K, Z), (B·K,), (B·K, E) → (B·K, Z).

        Raises:
            InputError: not B·K latents.
        """
        if len(latents) != self.rows:
            raise InputError(
                f"expected {self.rows} latents, one per support set and sample, got {len(latents)}: set samples, and put few-shot "
                "guidance around classifier-free guidance, not inside"
            )
        prediction = self.denoiser(latents, times, embeds)
        if self.scale == 0:
            return prediction
        a, sigma = signal_and_noise(self.scheduler, times, latents)
        clean = to_clean(self.kind, prediction, latents, a, sigma)
        moved = gradient_descent(
            self.loss, clean, *self.data, steps=1, lr=self.scale * sigma.square(), first_order=True
        )
        return from_clean(self.kind, moved, latents, a, sigma)


def _repeated(data: Any, times: int) -> Any:
    """Repeat each row of every tensor in nested tuples and dictionaries; its copies lie next to each other."""
    if isinstance(data, Tensor):
        return data.repeat_interleave(times, dim=0)
    if isinstance(data, dict):
        return {key: _repeated(value, times) for key, value in data.items()}
    parts = [_repeated(value, times) for value in data]
    return type(data)(*parts) if hasattr(data, "_fields") else tuple(parts)


def _rows(data: Any) -> int:
    while not isinstance(data, Tensor):
        data = next(iter(data.values() if isinstance(data, dict) else data))
    return len(data)
