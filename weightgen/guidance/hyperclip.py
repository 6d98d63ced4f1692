"""HyperCLIP guidance: gradient steps on latents until HyperCLIP matches the weights to the question.

Notation: B tasks, Z latent, E embedding.
"""

import torch
from torch import Generator, Tensor, nn

from weightgen.adaptation import gradient_descent
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import check_range, check_sizes
from weightgen.protocols import LatentHypernetwork, Prior


class HyperCLIPGuidance(nn.Module):
    """z ← z − α ∇ [λ ‖z − z⁰‖ − cos(H(h(z)), e)], k times, from z⁰ that a prior gives. A `Prior` around a `Prior`.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, equation 4,
        algorithms 10 and 11 (k = 10, α = 0.1, λ = 0.01; z⁰ is learned for an HNet and drawn from N(0, I) for
        an HVAE). The released code squares and halves the norm, and starts an HVAE at an encoding of the MAML
        initialisation.

    Args:
        prior: gives z⁰.
        hypernet: h.
        encoder: H.
        steps: k.
        lr: α.
        weight: λ.
        squared: λ ‖z − z⁰‖² / 2 in place of λ ‖z − z⁰‖.

    Raises:
        InputError: negative steps or weight.
    """

    def __init__(
        self,
        prior: Prior,
        hypernet: LatentHypernetwork,
        encoder: HyperCLIP,
        steps: int = 10,
        lr: float = 0.1,
        weight: float = 0.01,
        squared: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(0, steps=steps)
        check_range(lr=lr, weight=weight)
        self.prior = prior
        self.hypernet = hypernet
        self.encoder = encoder
        self.steps, self.lr, self.weight, self.squared = steps, lr, weight, squared

    def sample(self, embeds: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Embeds (B, E) → latents (B, Z)."""
        return self.guide(self.prior.sample(embeds, generator=generator), embeds)

    def guide(self, start: Tensor, embeds: Tensor) -> Tensor:
        """Take the steps from given latents (B, Z) towards the questions (B, E); returns latents (B, Z)."""
        wanted = self.encoder.project_text(embeds)
        with torch.no_grad():
            return gradient_descent(self._loss, start, start, wanted, steps=self.steps, lr=self.lr)

    def _loss(self, latent: Tensor, start: Tensor, wanted: Tensor) -> Tensor:
        likeness = self.encoder(self.hypernet(latent)) @ wanted
        squared = (latent - start).square().sum()
        if self.squared:
            return self.weight / 2 * squared - likeness
        # The norm has no gradient at z⁰, where the steps start; here its gradient is 0 there.
        away = torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)
        return self.weight * away - likeness
