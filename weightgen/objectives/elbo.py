"""ELBO, the training loss of the HVAE: error of the reconstructed weights, KL divergence, and the loss of the task they solve.

Notation: w adapted weights (P), z latent (Z), ŵ standardised weights.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from weightgen.errors import check_range
from weightgen.hypernets import HVAE
from weightgen.metrics import task_accuracy, task_loss
from weightgen.nn.across_processes import shared_mean
from weightgen.protocols import Outcome
from weightgen.shots import resplit
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
    """

    def __init__(
        self, hvae: HVAE, network: FunctionalNetwork, kl_weight: float = 1.0, function_weight: float = 0.0
    ) -> None:
        super().__init__()
        check_range(kl_weight=kl_weight, function_weight=function_weight)
        self.hvae = hvae
        self.network = network
        self.kl_weight = kl_weight
        self.function_weight = function_weight

    def forward(self, batch: tuple[Tensor, TaskBatch | None]) -> Outcome:
        """Loss of adapted weights (B, P) and the tasks they were adapted to, or None where only the first part is wanted."""
        weights, tasks = batch
        real = None if tasks is None else has_query(tasks)
        posterior = self.hvae.encode(weights)
        decoded = self.hvae(posterior.rsample())
        scale = self.hvae.standardizer
        squared = shared_mean((scale(weights) - scale(decoded)).square().sum(dim=-1), real)
        kl = shared_mean(kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=-1), real)
        loss = (squared + self.kl_weight * kl) / weights.shape[-1] ** 0.5
        metrics = {"squared_error": squared.detach() / weights.shape[-1], "kl": kl.detach()}
        if self.function_weight and tasks is not None:
            asked = resplit(tasks, 0.0).query
            logits = self.network(decoded, asked.inputs, **tasks.context)
            task = shared_mean(task_loss(logits, asked.labels), real)
            accuracy = shared_mean(task_accuracy(logits, asked.labels), real)
            metrics |= {"task_loss": task.detach(), "accuracy": accuracy}
            loss = loss + self.function_weight * task
        return Outcome(loss, {"loss": loss.detach(), **metrics})
