"""A small residual network on top of frozen CLIP features, compared with the embeddings of the answers.

Source: Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", TMLR 2023, after
CLIP-Adapter (Gao et al. 2021). Details that the paper does not give follow the authors' code.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.storage.hub import SavedModule


class CLIPAdapter(nn.Module, SavedModule):
    """Classify images among any answers: logits = s · cos(x + W₂ relu(W₁ x + b₁) + b₂, answers).

    Args:
        embed_dim: E, of the CLIP features; 768 for ViT-L/14.
        hidden_dim: H, the width between the two layers. P = 2EH, and E + H more with biases.
        ntk: neural tangent kernel parametrisation: the forward pass divides W₁ by √E and W₂ by √H, so that
            all stored weights are of order one. Without it, the initialisation does this instead.
        logit_scale: s.
        init: "zero_shot" starts the second layer and all biases at zero, so that logits are CLIP's own until
            training moves them; "authors" draws everything from N(0, 1), biases too.
        bias: whether the layers have biases.
        normalize_inputs: bring every input x to length √E first, so that the adapter does not depend on the
            scale of the encoder's features. The authors feed raw features (False).

    Raises:
        InputError: another `init`.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_dim: int = 256,
        ntk: bool = True,
        logit_scale: float = 100.0,
        init: Literal["zero_shot", "authors"] = "zero_shot",
        bias: bool = True,
        normalize_inputs: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(embed_dim=embed_dim, hidden_dim=hidden_dim)
        check_range(logit_scale=logit_scale)
        if init not in ("zero_shot", "authors"):
            raise InputError(f"expected init to be 'zero_shot' or 'authors', got {init!r}")
        self.input_dim = self.embed_dim = embed_dim
        self.ntk = ntk
        self.logit_scale = logit_scale
        self.normalize_inputs = normalize_inputs
        self.hidden = nn.Linear(embed_dim, hidden_dim, bias)
        self.out = nn.Linear(hidden_dim, embed_dim, bias)
        self._initialise(zero_shot=init == "zero_shot")

    def _initialise(self, zero_shot: bool) -> None:
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=1.0 if self.ntk else layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.normal_(layer.bias)
        if zero_shot:
            for start in (self.hidden.bias, self.out.weight, self.out.bias):
                if start is not None:
                    nn.init.zeros_(start)

    def forward(self, inputs: Tensor, answers: Tensor, answer_mask: Tensor | None = None) -> Tensor:
        """Score every answer for every image.

        Args:
            inputs: CLIP embeddings of images, with shape (*, N, E).
            answers: CLIP embeddings of the answers, with shape (*, C, E).
            answer_mask: False where an answer is padding and must not be chosen, with shape (*, C).

        Returns:
            Logits, with shape (*, N, C).

        Raises:
            InputError: embeddings of another length.
        """
        if inputs.shape[-1] != self.embed_dim:
            raise InputError(
                f"expected embeddings of {self.embed_dim} numbers, got {inputs.shape[-1]}: features with image tokens need a TokenAdapter"
            )
        x = unit(inputs) * math.sqrt(self.embed_dim) if self.normalize_inputs else inputs
        adapted = x + self._linear(self.out, functional.relu(self._linear(self.hidden, x)))
        return class_logits(adapted, answers, answer_mask, self.logit_scale)

    def _linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        # Scaling x and not the weights is the same and spares a copy of every task's weights.
        return functional.linear(x * layer.in_features**-0.5 if self.ntk else x, layer.weight, layer.bias)


def class_logits(adapted: Tensor, answers: Tensor, answer_mask: Tensor | None, scale: float) -> Tensor:
    """Scaled cosines of N adapted embeddings (*, N, E) with C answers (*, C, E), as (*, N, C); hopeless where `answer_mask` is False.

    Raises:
        InputError: images and answers of different lengths.
    """
    check_lengths(adapted, answers)
    return masked(scale * unit(adapted) @ unit(answers).mT, answer_mask)


def check_lengths(images: Tensor, answers: Tensor) -> None:
    """Refuse images (*, N, E) and answers (*, C, E) of different lengths.

    Raises:
        InputError: with both lengths.
    """
    if images.shape[-1] != answers.shape[-1]:
        raise InputError(
            f"expected images of {answers.shape[-1]} numbers, as answers have, got {images.shape[-1]}: embeddings go with a CLIPAdapter, "
            "features with tokens with a TokenAdapter of the same grid and token_dim"
        )


def masked(logits: Tensor, answer_mask: Tensor | None) -> Tensor:
    """Logits (*, N, C), hopeless where `answer_mask` (*, C) is False."""
    if answer_mask is None:
        return logits
    # Minus infinity would make the gradients of a softmax NaN; a quarter leaves room for sums.
    return logits.masked_fill(~answer_mask.unsqueeze(-2), torch.finfo(logits.dtype).min / 4)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1."""
    return vectors * inverse_length(vectors)


def inverse_length(vectors: Tensor) -> Tensor:
    """One over the lengths of vectors (*, E), with shape (*, 1)."""
    # The clamp keeps derivatives of every order finite at zero, which is what padding consists of.
    tiny = max(1e-12, torch.finfo(vectors.dtype).tiny)
    return vectors.square().sum(-1, keepdim=True).clamp_min(tiny).rsqrt()
