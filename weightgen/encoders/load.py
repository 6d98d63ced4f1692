"""Load an encoder: a CLIP by name or folder, any saved one, or a class of one's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from weightgen.encoders.clip import CLIP, PRECISIONS, PREPROCESS
from weightgen.encoders.clip_source import ClipSource
from weightgen.errors import InputError
from weightgen.protocols import Encoder
from weightgen.storage.files import StrPath, kind_of, read_object
from weightgen.storage.hub import class_named

CONTRACT = (
    *("name", "digest", "image_dim", "text_dim", "question_dim"),
    *("encode_images", "encode_texts", "encode_questions", "save_pretrained", "from_pretrained"),
)


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
    check_device(device)
    source = ClipSource(model, pretrained, random_weights)
    return CLIP(source, device=device, precision=precision, preprocess=preprocess)


def load_encoder(
    source: StrPath | Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    trust_remote_code: bool = False,
) -> Encoder:
    """Load an encoder of any kind.

    Args:
        source: a folder that an encoder's `save_pretrained` wrote, the folder of a CLIP, or a description:
            {"model": …, "pretrained": …} for `load_clip`, or {"_component_": "my.module.Encoder", …} with the
            arguments of a class or function of one's own.
        device: where it runs.
        trust_remote_code: whether classes that are not weightgen's may be imported and run.

    Raises:
        InputError: no such folder, a class that is not weightgen's, or one that is no `Encoder`.
    """
    check_device(device)
    if isinstance(source, Mapping):
        return _described(dict(source), device, trust_remote_code)
    path = Path(source).expanduser() / "encoder.json"
    if kind_of(path) is None:
        return load_clip(str(source), device=device)
    record = read_object(path)
    if "class" not in record:
        raise InputError(f"{path} names no class: it is no saved encoder")
    kind = class_named(record["class"], trust_remote_code)
    if not hasattr(kind, "from_pretrained") or not hasattr(kind, "encode_images"):
        raise InputError(f"{path} names {record['class']!r}, which is no encoder")
    return check_encoder(kind.from_pretrained(path.parent, device=device))


def _described(source: dict[str, Any], device: str | torch.device, trust_remote_code: bool) -> Encoder:
    if "_component_" not in source:
        return load_clip(**source, device=device)
    kind = class_named(source.pop("_component_"), trust_remote_code)
    try:
        return check_encoder(kind(**source))
    except TypeError as error:
        raise InputError(f"the encoder cannot be made: {error}") from error


def check_encoder(encoder: Any) -> Encoder:
    """Return an encoder that fulfils the contract.

    Raises:
        InputError: a method or attribute is missing.
    """
    missing = [name for name in CONTRACT if not hasattr(encoder, name)]
    if missing:
        raise InputError(
            f"{type(encoder).__name__} is no Encoder: it lacks {', '.join(missing)} (see weightgen.protocols.Encoder)"
        )
    return encoder


def _check(value: str, known: Sequence[str], what: str) -> None:
    if value not in known:
        raise InputError(f"unknown {what} {value!r}: choose one of {', '.join(known)}")


def check_device(device: str | torch.device) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        InputError: naming it.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"no device {str(device)!r} here: {str(error).splitlines()[0]}; use device='cpu'"
        ) from error
