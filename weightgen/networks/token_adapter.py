"""A base network that sees more of a picture than one vector: generated queries attend to its image tokens.

Notation: N examples, C classes, E embedding of a whole picture, S × S tokens of D numbers, Q queries, H hidden units.
"""

import math

import torch
from torch import Tensor, nn

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.networks.clip_adapter import class_logits, unit
from weightgen.storage.hub import SavedModule

POSITION_DIM = 11


class TokenAdapter(nn.Module, SavedModule):
    r"""Classify images among any answers: logits = s · cos(x + W₂ relu(W₁ [v_1, …, v_Q] + b₁) + b₂, answers), with

        v_q = Σ_t softmax_t(k_t · u_q / √D') k_t,

    where k_t is a frozen token of the image with a code of its position, D' numbers in all, and x the frozen embedding of the whole
    image. A `CLIPAdapter` moves x by what x itself holds; here what is added comes from the places that the queries u_q look at.
    W₂, b₁ and b₂ start at zero, so that logits are CLIP's own until training moves them.

    Args:
        embed_dim: the length of an image's features, as a `TokenEncoder` packs them: x (E) and then S² tokens of D.
        grid: S.
        token_dim: D.
        queries: Q.
        hidden_dim: H. P = Q D' + H (Q D' + 1) + E (H + 1).
        logit_scale: s.

    Raises:
        InputError: features too short for these tokens, or a size below 1.
    """

    position: Tensor

    def __init__(
        self,
        embed_dim: int,
        grid: int = 8,
        token_dim: int = 64,
        queries: int = 4,
        hidden_dim: int = 32,
        logit_scale: float = 100.0,
    ) -> None:
        super().__init__()
        check_sizes(
            embed_dim=embed_dim, grid=grid, token_dim=token_dim, queries=queries, hidden_dim=hidden_dim
        )
        check_range(logit_scale=logit_scale)
        self.input_dim, self.embed_dim = embed_dim, embed_dim - grid**2 * token_dim
        if self.embed_dim < 1:
            raise InputError(
                f"expected features of more than {grid**2 * token_dim} numbers, an embedding and {grid} × {grid} tokens of {token_dim}, "
                f"got {embed_dim}: embed the images with tokens={grid}, or use a CLIPAdapter"
            )
        self.grid, self.token_dim, self.logit_scale = grid, token_dim, logit_scale
        key_dim = token_dim + POSITION_DIM
        self.queries = nn.Parameter(torch.randn(queries, key_dim))
        self.hidden = nn.Linear(queries * key_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, self.embed_dim)
        self.register_buffer("position", position_code(grid), persistent=False)
        nn.init.normal_(self.hidden.weight)
        for start in (self.hidden.bias, self.out.weight, self.out.bias):
            nn.init.zeros_(start)

    def forward(self, inputs: Tensor, answers: Tensor, answer_mask: Tensor | None = None) -> Tensor:
        """Score every answer for every image.

        Args:
            inputs: images' features: their embeddings and tokens, with shape (*, N, E + S² D).
            answers: embeddings of the answers, with shape (*, C, E).
            answer_mask: False where an answer is padding and must not be chosen, with shape (*, C).

        Returns:
            Logits, with shape (*, N, C).

        Raises:
            InputError: features of another length.
        """
        if inputs.shape[-1] != self.input_dim:
            raise InputError(
                f"expected features of {self.input_dim} numbers, embeddings and {self.grid} × {self.grid} tokens of {self.token_dim}, got "
                f"{inputs.shape[-1]}: a network on tokens takes the features that embed_clip writes with tokens={self.grid}"
            )
        x, tokens = inputs[..., : self.embed_dim], inputs[..., self.embed_dim :]
        tokens = tokens.unflatten(-1, (self.grid**2, self.token_dim))
        # Scaled as in `CLIPAdapter`, so that all weights are of order one.
        features = self.hidden(self._attend(tokens) * self.hidden.in_features**-0.5).relu()
        adapted = unit(x) * math.sqrt(self.embed_dim) + self.out(features * self.out.in_features**-0.5)
        return class_logits(adapted, answers, answer_mask, self.logit_scale)

    def _attend(self, tokens: Tensor) -> Tensor:
        """Values of all queries, end to end: tokens (*, S², D) → (*, Q D'). The code is never joined to the tokens, which saves a copy."""
        looks, places = self.queries.split([self.token_dim, POSITION_DIM], dim=-1)
        scores = (tokens @ looks.mT + self.position @ places.mT) * self.queries.shape[-1] ** -0.5
        attention = scores.softmax(dim=-2).mT
        return torch.cat([attention @ tokens, attention @ self.position], dim=-1).flatten(-2)


def position_code(grid: int) -> Tensor:
    """Code of S × S places, row by row, with shape (S², 11): x, y, x y, and sines and cosines of π x, 2 π x, π y, 2 π y, in [-1, 1]."""
    line = (torch.arange(grid) + 0.5) / grid * 2 - 1
    y, x = (each.flatten() for each in torch.meshgrid(line, line, indexing="ij"))
    waves = [wave(math.pi * k * each) for each in (x, y) for k in (1, 2) for wave in (torch.sin, torch.cos)]
    return torch.stack([x, y, x * y, *waves], dim=-1)
