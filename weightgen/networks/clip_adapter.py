"""A small residual network on top of frozen CLIP features, compared with the embeddings of the answers.

Source: Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", TMLR 2023, after
CLIP-Adapter (Gao et al. 2021). Details that the paper does not give follow the authors' code.
"""

import math
from collections.abc import Callable
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

    @torch.no_grad()
    def descend(
        self,
        start: dict[str, Tensor],
        loss: Callable[[Tensor, Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
        steps: Tensor,
        lr: float,
        answers: Tensor,
        answer_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The change of the weights of B adapters by gradient descent; `weightgen.adaptation.adapt` uses it.

        The inputs x of the first layer stay the same, so W = W⁰ − α Σ δᵀ x and x Wᵀ = x W⁰ᵀ − α (x xᵀ) Σ δ, where δ (N, H) are the slopes
        of the layer's outputs: a product with N × N numbers in place of H × E, and W is not touched until the end. At the paper's size,
        N = 29, this halves the time of a step.

        Args:
            start: parameters by name, each with shape (B, ...).
            loss: (logits (B, N, C), labels) → losses (B,).
            inputs: examples, with shape (B, N, E).
            labels: with shape (B, N).
            steps: of each task, with shape (B,).
            lr: α.
            answers: see `forward`, with shape (B, C, E).
            answer_mask: see `forward`, with shape (B, C).

        Returns:
            The changes by name, with the shapes of `start`.
        """
        x = unit(inputs) * math.sqrt(self.embed_dim) if self.normalize_inputs else inputs
        first, second = (layer.in_features**-0.5 if self.ntk else 1.0 for layer in (self.hidden, self.out))
        scaled, biased = x * first, self.hidden.bias is not None
        gram = scaled @ scaled.mT + float(biased)  # a bias is the weight of an input that is 1
        before, slopes = _affine(scaled, start, "hidden"), torch.zeros((), device=x.device)
        out = {name: value.clone() for name, value in start.items() if name.startswith("out.")}
        for step in range(int(steps.max())):
            middle = before if not step else torch.baddbmm(before, gram, slopes, alpha=-lr)
            active = functional.relu(middle) * second
            with torch.enable_grad():
                adapted = (x + _affine(active, out, "out")).requires_grad_()
                losses = loss(class_logits(adapted, answers, answer_mask, self.logit_scale), labels)
                (slope,) = torch.autograd.grad(losses.sum(), adapted)
            slope = slope * (steps > step)[:, None, None]  # a task that has had its steps stays where it is
            slopes = slopes + (slope @ out["out.weight"]) * ((middle > 0) * second)
            out["out.weight"].baddbmm_(slope.mT, active, alpha=-lr)
            if biased:
                out["out.bias"] -= lr * slope.sum(dim=1)
        change = {name: value - start[name] for name, value in out.items()}
        change["hidden.weight"] = -lr * (slopes.mT @ scaled)
        if biased:
            change["hidden.bias"] = -lr * slopes.sum(dim=1)
        return change

    def _linear(self, layer: nn.Linear, x: Tensor) -> Tensor:
        # Scaling x and not the weights is the same and spares a copy of every task's weights.
        return functional.linear(x * layer.in_features**-0.5 if self.ntk else x, layer.weight, layer.bias)


def _affine(x: Tensor, parameters: dict[str, Tensor], layer: str) -> Tensor:
    weight, bias = parameters[f"{layer}.weight"], parameters.get(f"{layer}.bias")
    return x @ weight.mT if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)


def class_logits(adapted: Tensor, answers: Tensor, answer_mask: Tensor | None, scale: float) -> Tensor:
    """Scaled cosines of N adapted embeddings (*, N, E) with C answers (*, C, E), as (*, N, C); hopeless where `answer_mask` is False.

    Raises:
        InputError: images and answers of different lengths.
    """
    if adapted.shape[-1] != answers.shape[-1]:
        raise InputError(
            f"expected images of {answers.shape[-1]} numbers, as answers have, got {adapted.shape[-1]}: embeddings go with a CLIPAdapter, "
            "features with tokens with a TokenAdapter of the same grid and token_dim"
        )
    logits = scale * unit(adapted) @ unit(answers).mT
    if answer_mask is None:
        return logits
    # Minus infinity would make the gradients of a softmax NaN; a quarter leaves room for sums.
    return logits.masked_fill(~answer_mask.unsqueeze(-2), torch.finfo(logits.dtype).min / 4)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1."""
    # The clamp keeps derivatives of every order finite at zero, which is what padding consists of.
    tiny = max(1e-12, torch.finfo(vectors.dtype).tiny)
    return vectors * vectors.square().sum(-1, keepdim=True).clamp_min(tiny).rsqrt()
