"""The text tower of an open_clip CLIP as a module of the transformers library, which `peft` and others know how to adapt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from weightgen.encoders.clip import CLIP
from weightgen.errors import InputError, needs

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

LAYER = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
"""Names of the parts of a layer in open_clip → in transformers; those of attention differ in more than the name."""


def transformers_text_tower(clip: CLIP) -> CLIPTextModelWithProjection:
    """The same function of token ids (N, L) as `clip.model.encode_text`, as `module(input_ids).text_embeds` (N, E).

    open_clip keeps the projections of queries, keys and values in one matrix, which no low-rank adapter of `peft` can adapt alone. Here
    they are three layers, `q_proj`, `k_proj` and `v_proj`. Attention is computed by plain matrix products, so that `vmap` runs many
    adapters at once.

    Args:
        clip: a CLIP that open_clip has built, with open_clip's own transformer of texts.

    Raises:
        InputError: the text tower is another one.
    """
    with needs("clip"):
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    state: dict[str, Tensor] = clip.model.state_dict()
    if "transformer.resblocks.0.attn.in_proj_weight" not in state or clip.model.text_pool_type != "argmax":
        raise InputError(
            f"the text tower of {clip.name} is not open_clip's own, which ends texts with the highest id"
        )
    vocabulary, width = state["token_embedding.weight"].shape
    blocks = clip.model.transformer.resblocks
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(state["transformer.resblocks.0.mlp.c_fc.bias"]),
        projection_dim=clip.text_dim,
        num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads,
        max_position_embeddings=len(state["positional_embedding"]),
        hidden_act=_activation(blocks[0].mlp.gelu),
        bos_token_id=0,
        eos_token_id=vocabulary - 1,
        pad_token_id=0,
        attn_implementation="eager",
    )
    # Not its random start, which would draw from the caller's randomness.
    with torch.random.fork_rng():
        module = CLIPTextModelWithProjection(config)
    module.load_state_dict(_renamed(state, len(blocks)))
    return module.eval().requires_grad_(False)


def _activation(module: Any) -> str:
    return {"GELU": "gelu", "QuickGELU": "quick_gelu"}[type(module).__name__]


def _renamed(state: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The tensors of an open_clip text tower under the names of transformers."""
    found = {
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_model.final_layer_norm.weight": state["ln_final.weight"],
        "text_model.final_layer_norm.bias": state["ln_final.bias"],
        "text_projection.weight": state["text_projection"].T,
    }
    for number in range(layers):
        old, new = f"transformer.resblocks.{number}", f"text_model.encoder.layers.{number}"
        for kind in ("weight", "bias"):
            for name, part in zip("qkv", state[f"{old}.attn.in_proj_{kind}"].chunk(3), strict=True):
                found[f"{new}.self_attn.{name}_proj.{kind}"] = part
            found[f"{new}.self_attn.out_proj.{kind}"] = state[f"{old}.attn.out_proj.{kind}"]
            found |= {
                f"{new}.{ours}.{kind}": state[f"{old}.{theirs}.{kind}"] for theirs, ours in LAYER.items()
            }
    return {name: value.clone() for name, value in found.items()}
