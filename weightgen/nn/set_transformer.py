"""A transformer for support sets: no positional encodings, and layer norm after each residual.

Notation: B tasks, T tokens, D token size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weightgen.errors import MAX_LAYERS, check_range, check_sizes

EPS = 1e-6  # of the layer norms, as in the released code


def _rounded(fraction: float, dim: int, heads: int) -> int:
    """`fraction` of `dim`, rounded up to a multiple of the number of heads."""
    return math.ceil(math.ceil(fraction * dim) / heads) * heads


def glorot(linear: nn.Linear, gain: float = 1.0) -> nn.Linear:
    """Uniform Glorot weights, times `gain`, and a zero bias."""
    nn.init.xavier_uniform_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


class Attention(nn.Module):
    """Multi-head scaled dot-product attention.

    Args:
        dim: D.
        heads: number of heads.
        key_fraction: size of queries and keys, as a fraction of D.
        value_fraction: size of values, as a fraction of D.
        gain: factor of the initial weights of the output.
    """

    def __init__(
        self, dim: int, heads: int, key_fraction: float, value_fraction: float, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.sizes = [_rounded(key_fraction, dim, heads), _rounded(value_fraction, dim, heads)]
        self.query = glorot(nn.Linear(dim, self.sizes[0]))
        self.key = glorot(nn.Linear(dim, self.sizes[0]))
        self.value = glorot(nn.Linear(dim, self.sizes[1]))
        self.out = glorot(nn.Linear(self.sizes[1], dim), gain)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from tokens x (B, T, D) to `source` (B, S, D), where `mask` (B, 1, 1, S) is true."""
        parts = [self.query(x), self.key(source), self.value(source)]
        query, key, value = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x ← LN(x + attention); with a source x ← LN(x + attention to it); x ← LN(x + MLP(x)).

    Args:
        dim: D.
        heads: number of heads.
        key_fraction: see `Attention`.
        value_fraction: see `Attention`.
        inner_fraction: width of the MLP as a fraction of D; 0 leaves it out, with its norm.
        leak: negative slope of the ReLU in the MLP.
        gain: factor of the initial weights with which attention and MLP end.
        with_source: whether the block also attends to the output of an encoder, as a decoder block does.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        key_fraction: float,
        value_fraction: float,
        inner_fraction: float,
        leak: float,
        gain: float,
        with_source: bool = False,
    ) -> None:
        super().__init__()
        sizes = (dim, heads, key_fraction, value_fraction, gain)
        self.attention = Attention(*sizes)
        self.norm = nn.LayerNorm(dim, EPS)
        self.cross = Attention(*sizes) if with_source else None
        self.cross_norm = nn.LayerNorm(dim, EPS) if with_source else None
        self.mlp: nn.Sequential | None = None
        if inner_fraction:
            inner = _rounded(inner_fraction, dim, heads)
            relu = nn.LeakyReLU(leak) if leak else nn.ReLU()
            first = glorot(nn.Linear(dim, inner))
            self.mlp = nn.Sequential(first, relu, glorot(nn.Linear(inner, dim), gain))
            self.mlp_norm = nn.LayerNorm(dim, EPS)

    def forward(
        self, x: Tensor, mask: Tensor | None, source: Tensor | None = None, first: int | None = None
    ) -> Tensor:
        """Transform the first tokens of x (B, T, D), `first` in number or all; they attend to all tokens."""
        kept = x[:, :first]
        x = self.norm(kept + self.attention(kept, x, mask))
        if self.cross is not None and self.cross_norm is not None:
            x = self.cross_norm(x + self.cross(x, source, mask))
        return x if self.mlp is None else self.mlp_norm(x + self.mlp(x))


class SetTransformer(nn.Module):
    """Encoder blocks, optionally followed by as many decoder blocks.

    The decoder blocks start from the input tokens again, and attend to the output of the encoder.

    Args:
        dim: D.
        layers: number of encoder blocks, and of decoder blocks if there are any.
        heads: number of heads.
        key_fraction: size of queries and keys, as a fraction of D.
        value_fraction: size of values, as a fraction of D.
        inner_fraction: width of the MLPs as a fraction of D; 0 leaves them out.
        leak: negative slope of the ReLU.
        decoder: whether there are decoder blocks.
        gain: factor of the initial weights with which attention and MLPs end; a small one lets a token leave a block
            nearly as it enters.

    Raises:
        InputError: no layers or heads, or a fraction that is not positive.
    """

    def __init__(
        self,
        dim: int,
        layers: int = 3,
        heads: int = 2,
        key_fraction: float = 1.0,
        value_fraction: float = 1.0,
        inner_fraction: float = 1.0,
        leak: float = 0.0,
        decoder: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim)
        check_sizes(1, MAX_LAYERS, layers=layers, heads=heads)
        check_range(1e-6, 100, key_fraction=key_fraction, value_fraction=value_fraction)
        check_range(0, 100, inner_fraction=inner_fraction)
        check_range(leak=leak, gain=gain)
        sizes = (dim, heads, key_fraction, value_fraction, inner_fraction, leak, gain)
        self.encoder = nn.ModuleList(Block(*sizes) for _ in range(layers))
        self.decoder = nn.ModuleList(Block(*sizes, with_source=True) for _ in range(layers * decoder))

    def forward(self, tokens: Tensor, present: Tensor | None = None, first: int | None = None) -> Tensor:
        """Transform tokens (B, T, D), which attend only to those that are `present` (B, T).

        Only the first `first` tokens are returned; the last block skips the others.
        """
        mask = None if present is None else present[:, None, None, :]
        x, encoding = tokens, None
        for blocks in (self.encoder, self.decoder):
            last = blocks is self.decoder or not len(self.decoder)
            if blocks is self.decoder and len(blocks):
                x, encoding = tokens, x
            for i, block in enumerate(blocks):
                x = block(x, mask, encoding, first if last and i + 1 == len(blocks) else None)
        return x


def placeholders(count: int, dim: int) -> nn.Parameter:
    """`count` learned tokens of length `dim`, drawn from N(0, 1) at first."""
    return nn.Parameter(torch.randn(count, dim))
