"""HyperCLIP's training loss: match the weights of each task of a batch with its question."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import check_range
from weightgen.nn.across_processes import gather_rows
from weightgen.protocols import Outcome


class ContrastiveLoss(nn.Module):
    """L = (CE(s · H Tᵀ, rows) + CE(s · H Tᵀ, columns)) / 2, with H the embedded weights and T the questions, both of length 1.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, algorithm 1
        (no scale). The released code multiplies by a constant 100, which is the default here, and does not
        halve.

    Args:
        encoder: the encoder of weights.
        logit_scale: s.
        halved: whether to divide by two.
    """

    def __init__(self, encoder: HyperCLIP, logit_scale: float = 100.0, halved: bool = True) -> None:
        super().__init__()
        check_range(logit_scale=logit_scale)
        self.encoder = encoder
        self.logit_scale = logit_scale
        self.halved = halved

    def forward(self, batch: tuple[Tensor, Tensor]) -> Outcome:
        """Loss of weights (B, P) and the embeddings of their questions (B, E)."""
        weights, embeds = batch
        # Every weight vector is compared with the questions of all processes.
        embedded, questions = gather_rows(self.encoder(weights)), gather_rows(embeds)
        logits = self.logit_scale * (embedded @ self.encoder.project_text(questions).mT)
        own = torch.arange(len(logits), device=logits.device)
        loss = cross_entropy(logits, own) + cross_entropy(logits.mT, own)
        accuracy = (logits.argmax(dim=1) == own).float().mean()
        return Outcome(loss / 2 if self.halved else loss, {"loss": loss.detach(), "accuracy": accuracy})
