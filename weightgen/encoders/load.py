"""Load a CLIP from an open_clip name and tag, or from a folder."""

from collections.abc import Sequence
from pathlib import Path

import torch

from weightgen.encoders.clip import CLIP, PRECISIONS, PREPROCESS, Towers
from weightgen.errors import InputError


def load_clip(
    model: str,
    pretrained: str | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    random_weights: bool = False,
    preprocess: str = "center-crop",
) -> CLIP:
    """Load a frozen CLIP.

    Args:
        model: a name that open_clip knows (`ViT-L-14-336`), or a folder, read without network: open_clip's
            (`open_clip_config.json`, `open_clip_model.safetensors`, optionally `tokenizer.json`) or that of
            a transformers CLIP (`config.json`, `model.safetensors` and tokenizer files).
        pretrained: the tag of the weights (`openai`) for a name; None for a folder.
        device: where the towers run.
        precision: `fp32`, `fp16` or `bf16`.
        random_weights: for a name, take random weights in place of trained ones, the same in every process.
        preprocess: `center-crop` (the model's own) or `squash`.

    Raises:
        InputError: an unknown name, tag, option or device; a name without weights; weights that cannot be
            downloaded; a folder that is missing, damaged or holds weights in another format than safetensors.
    """
    _check(precision, tuple(PRECISIONS), "precision")
    _check(preprocess, PREPROCESS, "preprocess")
    _check_device(device)
    folder = Path(model).expanduser()
    if folder.is_dir():
        if pretrained or random_weights:
            raise InputError(
                f"{model} is a folder with weights of its own: leave pretrained and random_weights out"
            )
        towers, label = _read_folder(folder), folder.resolve().name
    else:
        from weightgen.encoders import clip_named

        towers = clip_named.load(model, pretrained, random_weights)
        label = f"{model} {pretrained or 'random'}"
    return CLIP(towers, label, device=device, precision=precision, preprocess=preprocess)


def _read_folder(folder: Path) -> Towers:
    if (folder / "open_clip_config.json").is_file():
        from weightgen.encoders import clip_folder

        return clip_folder.load(folder)
    if (folder / "config.json").is_file():
        from weightgen.encoders import clip_transformers

        return clip_transformers.load(folder)
    raise InputError(
        f"{folder} holds no CLIP: expected open_clip_config.json with open_clip_model.safetensors, "
        "or a transformers CLIP's config.json with model.safetensors"
    )


def _check(value: str, known: Sequence[str], what: str) -> None:
    if value not in known:
        raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(known)}")


def _check_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"no device {str(device)!r} here: {str(error).splitlines()[0]}; use device=cpu"
        ) from error
