"""BERT as an encoder of texts, without transformers, whose import takes longer than all else that a question needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import embedding, gelu, layer_norm, linear, scaled_dot_product_attention

from weightgen.storage.files import read_object, read_tensors


class TextModel(NamedTuple):
    """What a text tower is made of.

    Attributes:
        model: has `to` and `state_dict`.
        states: token ids (N, L), and 0 at padding (N, L) → token vectors (N, L, D).
        tokenizer: of the tokenizers library.
        dim: D.
        max_tokens: the most that the model takes.
        padding: the token.
    """

    model: Any
    states: Callable[[Tensor, Tensor], Tensor]
    tokenizer: Tokenizer
    dim: int
    max_tokens: int
    padding: str


class Bert:
    """Token ids (N, L) → token vectors (N, L, D), as transformers' `BertModel` computes them, to the bit.

    References:
        Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.

    Args:
        tensors: the weights, by transformers' names.
        config: transformers' settings.
    """

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        self.tensors = dict(tensors)
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.eps: float = config["layer_norm_eps"]

    def to(self, device: torch.device | str) -> Bert:
        """Move the weights, in place."""
        self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The weights."""
        return self.tensors

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        gain, shift = (self.tensors[f"{name}.LayerNorm.{part}"] for part in ("weight", "bias"))
        return layer_norm(x, gain.shape, gain, shift, self.eps)

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token vectors of ids (N, L), where `mask` (N, L) is 0 at padding."""
        words, places, kinds = (
            self.tensors[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        x = self._norm(embedding(ids, words) + kinds[0] + places[: ids.shape[1]], "embeddings")
        seen = None if bool(mask.all()) else mask.bool()[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            parts = (self._linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value"))
            q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
            y = scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(-2)
            y = self._linear(y, f"{layer}.attention.output.dense")
            x = self._norm(y + x, f"{layer}.attention.output")
            y = self._linear(gelu(self._linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
            x = self._norm(y + x, f"{layer}.output")
        return x


def read_bert(folder: Path) -> TextModel:
    """Read a folder of transformers that is known to hold a `BertModel` and its own tokenizer."""
    config = read_object(folder / "config.json")
    tensors = read_tensors(folder / "model.safetensors")
    tensors.pop("embeddings.position_ids", None)  # counts from 0 up
    model, tokenizer = Bert(tensors, config), Tokenizer.from_file(str(folder / "tokenizer.json"))
    return TextModel(
        model, model, tokenizer, config["hidden_size"], config["max_position_embeddings"], "[PAD]"
    )
