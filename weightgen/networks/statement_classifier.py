"""A base network that is a text tower: it embeds the statements of the answers, and frozen image embeddings are compared with them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from weightgen.networks.clip_adapter import class_logits


class StatementClassifier(nn.Module):
    """Classify images among statements: logits = s · cos(x, text(statements)), where x are frozen image embeddings.

    A `CLIPAdapter` moves the images, this moves the statements: what is generated are weights of the text tower, such as its low-rank
    adapters: `FunctionalNetwork(StatementClassifier(peft_model), include="*.lora_*")`.

    Args:
        text: token ids (C, L) → an output with `text_embeds` (C, E), such as `CLIPTextModelWithProjection` of transformers.
        logit_scale: s.
    """

    def __init__(self, text: Any, logit_scale: float = 10.0) -> None:
        super().__init__()
        self.text, self.logit_scale = text, logit_scale

    def forward(self, inputs: Tensor, tokens: Tensor, answer_mask: Tensor | None = None) -> Tensor:
        """Score every statement for every image.

        Args:
            inputs: image embeddings, with shape (N, E).
            tokens: token ids of the statements, with shape (C, L).
            answer_mask: False where a statement is padding and must not be chosen, with shape (C,).

        Returns:
            Logits, with shape (N, C).
        """
        return class_logits(inputs, self.text(input_ids=tokens).text_embeds, answer_mask, self.logit_scale)
