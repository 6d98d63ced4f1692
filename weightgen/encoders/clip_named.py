"""CLIP models that open_clip knows by name, with weights that it knows by tag."""

import difflib
from typing import Any

import torch
from torch import nn

from weightgen.encoders.clip_folder import brief, load_weights, new_clip
from weightgen.encoders.clip_towers import Towers
from weightgen.errors import InputError, needs

__all__ = ["load"]


def load(model: str, pretrained: str | None, random_weights: bool) -> Towers:
    """Make the towers of a named model.

    Args:
        model: a name from `open_clip.list_models()`; `ViT-B/32` is read as `ViT-B-32`.
        pretrained: a tag from `open_clip.list_pretrained_tags_by_model(model)`; None with random weights.
        random_weights: whether the weights shall be random.

    Raises:
        InputError: an unknown name or tag, neither a tag nor random weights asked for, or both; no download.
    """
    with needs("clip"):
        import open_clip
        from open_clip.transform import PreprocessCfg

    name, config = _config(model)
    if pretrained and random_weights:
        raise InputError(
            f"pretrained={pretrained} and random_weights=true contradict each other: give one of them"
        )
    tag = {} if random_weights else _tag(name, pretrained)
    # For `ViT-L-14-336` with `openai` open_clip builds the plain GELU and only warns; they need QuickGELU.
    config["quick_gelu"] = config.get("quick_gelu", False) or tag.get("quick_gelu", False)
    pixels = {key: value for key, value in tag.items() if key in PreprocessCfg.__dataclass_fields__}
    pixels["size"] = config["vision_cfg"].get("image_size", 224)
    try:
        network = _network(name, config, tag)
        tokenize = open_clip.get_tokenizer(name)
    except OSError as error:
        raise InputError(
            f"the weights {pretrained!r} of {name} cannot be downloaded ({brief(error)}): connect "
            "to the network once, or give the folder of a downloaded model in place of the name"
        ) from error
    vocabulary = f"{type(tokenize).__name__} {config['text_cfg'].get('hf_tokenizer_name', '')}"
    return Towers(network, tokenize, pixels, config["embed_dim"], vocabulary)


def is_named(model: str) -> bool:
    """Whether open_clip knows a model of that name."""
    import open_clip

    return model.replace("/", "-") in open_clip.list_models()


def _config(model: str) -> tuple[str, dict[str, Any]]:
    with needs("clip"):
        import open_clip

    name = model.replace("/", "-")
    known = open_clip.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
        raise InputError(
            f"{model!r} is neither a folder nor a model that open_clip knows: for example {', '.join(close)}"
        )
    return name, open_clip.get_model_config(name)


def _tag(name: str, pretrained: str | None) -> dict[str, Any]:
    with needs("clip"):
        from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    tags = ", ".join(list_pretrained_tags_by_model(name)) or "none"
    if not pretrained:
        raise InputError(
            f"{name} without weights: add the tag of its weights as pretrained=TAG (known: {tags}), "
            "or ask for untrained ones with random_weights=true"
        )
    tag = get_pretrained_cfg(name, pretrained)
    if not tag:
        raise InputError(f"open_clip knows no weights {pretrained!r} for {name}: choose one of {tags}")
    return tag


def _network(name: str, config: dict[str, Any], tag: dict[str, Any]) -> nn.Module:
    if not tag:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the processes of one run must agree on the weights
            return new_clip(config)
    with needs("clip"):
        from open_clip.pretrained import download_pretrained

    weights = download_pretrained(tag)
    network = new_clip(config)
    load_weights(network, weights)
    return network
