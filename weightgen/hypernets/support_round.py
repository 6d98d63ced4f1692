"""One round of `SupportHNet`: attention over the examples, then one update of both layers of the adapter.

Notation: B tasks, N examples, C classes, E embedding (of images and answers), H hidden units.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from weightgen.nn.set_transformer import SetTransformer


class RoundSettings(NamedTuple):
    """What all rounds of one `SupportHNet` share.

    Attributes:
        input_dim: E.
        hidden_dim: H.
        step: step size of the gradient steps before training.
        logit_scale: logit scale of the adapter.
        writes_all: whether the first layer is written too.
    """

    input_dim: int
    hidden_dim: int
    step: float
    logit_scale: float
    writes_all: bool


class Seen(NamedTuple):
    """A batch of support sets as the rounds see them.

    Attributes:
        images: x, with shape (B, N, E).
        answers: of length 1, with shape (B, C, E).
        real: False where an answer is padding, with shape (B, 1, C).
        own: the answer of each image, with shape (B, N, E).
        share: 1 divided by the number of examples, and 0 for padding, with shape (B, N, 1).
    """

    images: Tensor
    answers: Tensor
    real: Tensor
    own: Tensor
    share: Tensor


class Round(nn.Module):
    """One round of `SupportHNet`."""

    def __init__(self, dim: int, heads: int, input_dim: int, hidden_dim: int, sharpness: float) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(sharpness).log())
        self.slopes = nn.Linear(input_dim, dim, bias=False)
        self.block = SetTransformer(dim, 1, heads)
        self.gains = nn.Linear(dim, 2)
        self.left = nn.Linear(input_dim, input_dim, bias=False)
        self.values = nn.Linear(dim, input_dim)
        self.right = nn.Linear(hidden_dim + 1, hidden_dim + 1, bias=False)
        for change in (self.gains, self.left, self.values, self.right):
            for parameter in change.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, seen: Seen, tokens: Tensor, first: Tensor, last: Tensor, settings: RoundSettings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, N, D'), U (B, H, E + 1) and V (B, E, H + 1) after the round."""
        root = settings.hidden_dim**0.5
        keys = append_constant(seen.images, 1.0) / settings.input_dim**0.5
        before = keys @ first.mT
        active = append_constant(relu(before), 1.0) / root
        gradient = self._gradient(seen, active @ last.mT, settings.logit_scale)
        tokens = self.block(tokens + self.slopes(gradient), seen.share.squeeze(-1) > 0)
        pooled = (seen.share * tokens).sum(dim=1, keepdim=True)
        gain, gain_first = (settings.step * self.gains(pooled).exp()).split(1, dim=-1)
        value = gain * (gradient + self.left(gradient)) + self.values(tokens)
        if settings.writes_all:
            back = gradient @ last[..., :-1] / root * (before > 0)
            first = first + (gain_first * seen.share * back).mT @ keys
        return tokens, first, last + (seen.share * value).mT @ (active + self.right(active))

    def _gradient(self, seen: Seen, change: Tensor, scale: float) -> Tensor:
        """The gradient of each example's log-likelihood with respect to its adapted embedding, (B, N, E)."""
        adapted = change + seen.images
        length = adapted.square().sum(dim=-1, keepdim=True).clamp_min(1e-6).sqrt()
        unit = adapted / length
        logits = self.log_sharpness.exp() * scale * unit @ seen.answers.mT
        expected = logits.masked_fill(~seen.real, -torch.inf).softmax(dim=-1) @ seen.answers
        pull = seen.own - expected
        return scale / length * (pull - unit * (unit * pull).sum(dim=-1, keepdim=True))


def append_constant(x: Tensor, value: float) -> Tensor:
    """Append one column of `value` to (*, D)."""
    return torch.cat([x, torch.full_like(x[..., :1], value)], dim=-1)
