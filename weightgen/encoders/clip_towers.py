"""What the readers of the different formats of a CLIP hand over."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

Tokenize = Callable[[list[str]], Tensor]


class Towers(NamedTuple):
    """The two towers of a CLIP and what they need around them.

    Attributes:
        model: has `encode_image((N, 3, H, W))` and `encode_text((N, L))`, both to (N, E).
        tokenize: a list of N texts to token ids (N, L).
        pixels: open_clip's preprocessing: `size`, `mean`, `std`, `interpolation`, `resize_mode`.
        dim: the size E of the embeddings.
        vocabulary: a text that identifies the tokenizer.
    """

    model: nn.Module
    tokenize: Tokenize
    pixels: dict[str, Any]
    dim: int
    vocabulary: str


def folder_name(label: str) -> str:
    """A label in small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
