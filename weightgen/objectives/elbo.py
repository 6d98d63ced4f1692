"""ELBO, the training loss of the HVAE: error of the reconstructed weights, KL divergence, and the loss of the task they solve.

Notation: w adapted weights (P), z latent (Z), ŵ standardised weights.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from weightgen.errors import check_range
from weightgen.hypernets import HVAE
from weightgen.nn.across_processes import shared_mean
from weightgen.objectives.function_loss import function_loss
from weightgen.protocols import Outcome, WeightScore
from weightgen.tasks import TaskBatch, has_query
from weightgen.weights import FunctionalNetwork


class ELBOLoss(nn.Module):
    """L = (‖ŵ − ŵ'‖² + β KL(q(z | w) ‖ N(0, I))) / √P + γ · task loss of the decoded weights w'.

    The first part is the paper's, with the released code's 1/√P; the second (γ = 0 in the paper) is
    cross-entropy on the examples of the task that w was adapted to. Squared error treats all P directions
    alike; the task does not.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, equation 3 and
        algorithm 7.

    Args:
        hvae: the autoencoder.
        network: the base network, as a function of its weights.
        kl_weight: β; 1 in the released code, not given in the paper.
        function_weight: γ.
        score: in place of the task loss, where weights are of a zoo without tasks.
    """

    def __init__(
        self,
        hvae: HVAE,
        network: FunctionalNetwork,
        kl_weight: float = 1.0,
        function_weight: float = 0.0,
        score: WeightScore | None = None,
    ) -> None:
        super().__init__()
        check_range(kl_weight=kl_weight, function_weight=function_weight)
        self.hvae = hvae
        self.network = network
        self.kl_weight = kl_weight
        self.function_weight = function_weight
        self.score = score

    def forward(self, batch: tuple[Tensor, TaskBatch | Tensor | None]) -> Outcome:
        """Loss of adapted weights (B, P) and the tasks they were adapted to.

        Args:
            batch: the weights; and B tasks, or their numbers (B,) where there is a score, or None where only the first part is wanted.
        """
        weights, tasks = batch
        real = has_query(tasks) if isinstance(tasks, TaskBatch) else None
        posterior = self.hvae.encode(weights)
        decoded = self.hvae(posterior.rsample())
        scale = self.hvae.standardizer
        squared = shared_mean((scale(weights) - scale(decoded)).square().sum(dim=-1), real)
        kl = shared_mean(kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=-1), real)
        loss = (squared + self.kl_weight * kl) / weights.shape[-1] ** 0.5
        metrics = {"squared_error": squared.detach() / weights.shape[-1], "kl": kl.detach()}
        if self.function_weight and tasks is not None:
            task, found = function_loss(self.network, decoded, tasks, self.score)
            metrics |= found
            loss = loss + self.function_weight * task
        return Outcome(loss, {"loss": loss.detach(), **metrics})
