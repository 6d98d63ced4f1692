"""A CLIP in a folder, in open_clip's format, with a tokenizer of its own where it has one.

    open_clip_config.json        {"model_cfg": {embed_dim, vision_cfg, text_cfg}, "preprocess_cfg": {mean, …}}
    open_clip_model.safetensors  the weights
    tokenizer.json               optional: a tokenizer of the `tokenizers` library, where it is not CLIP's own

A tokenizer adds its start and end tokens itself (its post-processor). Id 0 is padding; with open_clip's
default pooling (`argmax`) the end token must have the highest id of the vocabulary.
"""

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from weightgen.encoders.clip_checks import check_config, check_folder, check_inside, check_memory
from weightgen.encoders.clip_towers import Towers
from weightgen.errors import InputError, needs
from weightgen.storage.files import StrPath, read_json, read_object, write_json, write_tensors, written_beside
from weightgen.storage.hub import check_finite

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["FileTokenizer", "brief", "load", "load_weights", "new_clip", "save_clip"]

CLIP_VOCABULARY = 49408
TEXT_MODEL = "text_model"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")


class FileTokenizer:
    """Texts to token ids of a fixed length, by a tokenizer of the `tokenizers` library.

    Args:
        tokenizer: the tokenizer; it is copied.
        context_length: the number L of tokens of a text, start and end included; longer texts are cut.
    """

    def __init__(self, tokenizer: "Tokenizer", context_length: int) -> None:
        self._tokenizer = type(tokenizer).from_str(tokenizer.to_str())
        self._tokenizer.enable_truncation(context_length)
        self._tokenizer.enable_padding(
            length=context_length, pad_id=0, pad_token=self._tokenizer.id_to_token(0) or "[PAD]"
        )
        self.vocab_size: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Turn N texts into ids (N, L), int64."""
        return torch.tensor([encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))])

    def to_str(self) -> str:
        """Return the tokenizer as JSON."""
        return self._tokenizer.to_str()


def new_clip(config: Mapping[str, Any], tokenizer: "Tokenizer | None" = None) -> nn.Module:
    """Make a trainable open_clip model with random weights.

    Args:
        config: open_clip's model configuration: `embed_dim`, `vision_cfg`, `text_cfg`, and options such as
            `custom_text`. A timm or Hugging Face tower named in it starts untrained too.
        tokenizer: the tokenizer to be used with it, to check that the two agree.

    Raises:
        InputError: the configuration is not one that open_clip can build, or the tokenizer does not fit it.
    """
    with needs("clip"):
        from open_clip import CoCa, CustomTextCLIP
        from open_clip.model import CLIP

    kwargs = copy.deepcopy(dict(config))
    try:
        vision, text = kwargs["vision_cfg"], kwargs["text_cfg"]
        if tokenizer is not None:
            _check_tokenizer(FileTokenizer(tokenizer, text.get("context_length", 77)), text)
        if vision.get("timm_model_name"):
            vision["timm_model_pretrained"] = False
        if text.get("hf_model_name"):
            text["hf_model_pretrained"] = False
        custom = kwargs.pop("custom_text", False) or bool(text.get("hf_model_name"))
        return ((CoCa if "multimodal_cfg" in kwargs else CustomTextCLIP) if custom else CLIP)(**kwargs)
    except InputError:
        raise
    except Exception as error:  # open_clip, timm and transformers raise many kinds
        raise InputError(f"open_clip cannot build a model from this configuration: {brief(error)}") from error


def save_clip(
    model: nn.Module,
    config: Mapping[str, Any],
    tokenizer: "Tokenizer | None",
    folder: StrPath,
    *,
    half: bool = False,
    pixels: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write an open_clip model as a folder that `load_clip` reads; it appears whole or not at all.

    Args:
        model: what `new_clip` made, trained since.
        config: the configuration that it was made from.
        tokenizer: its tokenizer; None for CLIP's own.
        folder: the folder to make.
        half: whether to store floating point weights in half precision.
        pixels: `mean`, `std`, `interpolation` and `resize_mode` of its preprocessing, unless CLIP's.
        overwrite: whether an existing folder may be replaced.

    Raises:
        InputError: the folder exists, or a weight has no value in half precision.
    """
    tensors = {name: _halved(name, value) if half else value for name, value in model.state_dict().items()}
    with written_beside(folder, overwrite) as partial:
        partial.mkdir()
        write_json(
            partial / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": dict(pixels or {})}
        )
        write_tensors(partial / WEIGHTS[0], tensors, metadata={"format": "pt"})
        if tokenizer is not None:
            tokenizer.save(str(partial / "tokenizer.json"))


def load(folder: Path) -> Towers:
    """Read the towers of an open_clip folder, without network.

    Raises:
        InputError: a file is missing, damaged, or does not fit the others.
    """
    with needs("clip"):
        from open_clip.transform import PreprocessCfg

    path = folder / "open_clip_config.json"
    content = read_json(path)
    config = content.get("model_cfg", content) if isinstance(content, dict) else {}
    if (
        not isinstance(config, dict)
        or not all(isinstance(config.get(key), dict) for key in ("vision_cfg", "text_cfg"))
        or "embed_dim" not in config
    ):
        raise InputError(
            f"{path} is not open_clip's: expected embed_dim, vision_cfg and text_cfg in its model_cfg"
        )
    check_folder(folder)
    check_config(config, folder)
    weights = _weights_file(folder)
    tokenize, vocabulary = _tokenizer(folder, config["text_cfg"])
    known = PreprocessCfg.__dataclass_fields__
    given = content.get("preprocess_cfg", {})
    if not isinstance(given, dict):
        raise InputError(f"{path}: preprocess_cfg must be an object, got {given!r:.60}")
    pixels = {key: value for key, value in given.items() if key in known}
    pixels["size"] = config["vision_cfg"].get("image_size", 224)
    located = _located(config, folder)
    with torch.device("meta"):
        check_memory(new_clip(located), weights)
    network = new_clip(located)
    load_weights(network, weights)
    check_finite(network.state_dict(), str(weights))
    return Towers(network, tokenize, pixels, config["embed_dim"], vocabulary)


def check_inside_folder(folder: Path) -> None:
    """Refuse a saved CLIP that names files outside of its folder.

    Raises:
        InputError: naming them.
    """
    content = read_object(folder / "open_clip_config.json")
    config = content.get("model_cfg", content)
    if isinstance(config, dict) and isinstance(config.get("text_cfg"), dict):
        check_inside(config, folder)


def make_relocatable(folder: Path) -> None:
    """Replace the path of a local text model in a copied folder by a copy of that model's configuration."""
    path = folder / "open_clip_config.json"
    content = read_json(path)
    text = content.get("model_cfg", content)["text_cfg"]
    outside = Path(text.get("hf_model_name") or "")
    if outside.is_absolute() and (outside / "config.json").is_file():
        (folder / TEXT_MODEL).mkdir(exist_ok=True)
        shutil.copyfile(outside / "config.json", folder / TEXT_MODEL / "config.json")
        text["hf_model_name"] = TEXT_MODEL
        if text.get("hf_tokenizer_name"):
            text["hf_tokenizer_name"] = "."  # its files lie in the folder itself
        write_json(path, content)


def _located(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration with a text model's folder, if it lies in this one, as a path."""
    found = copy.deepcopy(dict(config))
    name = found["text_cfg"].get("hf_model_name")
    if name:  # `check_config` has seen that it is a folder
        found["text_cfg"]["hf_model_name"] = str(folder / name)
    return found


def load_weights(network: nn.Module, path: StrPath) -> None:
    """Load a checkpoint into an open_clip model, every weight of it.

    Raises:
        InputError: the file is damaged, or its tensors are not this model's.
    """
    with needs("clip"):
        from open_clip.factory import load_checkpoint
    from safetensors import SafetensorError

    try:
        load_checkpoint(network, str(path), strict=True)
    except (SafetensorError, RuntimeError, KeyError, StopIteration, OSError) as error:
        raise InputError(f"{path} does not hold the weights of this CLIP: {brief(error)}") from error


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    other = sorted(path.name for suffix in ("bin", "pt", "pth") for path in folder.glob(f"*.{suffix}"))
    found = (
        f"found {', '.join(other)}, which may run code when loaded: convert it"
        if other
        else "no weights in it"
    )
    raise InputError(f"{folder}: expected {WEIGHTS[0]}, {found}")


def _tokenizer(folder: Path, text: Mapping[str, Any]) -> tuple[Any, str]:
    """Make the function from texts to ids, and a text that identifies it."""
    with needs("clip"):
        import open_clip

    path, length = folder / "tokenizer.json", text.get("context_length", 77)
    if text.get("hf_tokenizer_name"):
        try:
            tokenize = open_clip.get_tokenizer(
                f"local-dir:{folder}", local_files_only=True, trust_remote_code=False
            )
            tokenize(["a"])
        except Exception as error:  # transformers raises many kinds
            raise InputError(f"{folder} has no tokenizer that can be used: {brief(error)}") from error
        return tokenize, tokenize.tokenizer.backend_tokenizer.to_str()
    if path.is_file():
        from tokenizers import Tokenizer

        try:
            own = FileTokenizer(Tokenizer.from_str(path.read_text(encoding="utf-8")), length)
        except Exception as error:  # the library raises bare Exceptions
            raise InputError(
                f"{path} is not a tokenizer of the tokenizers library: {brief(error)}"
            ) from error
        _check_tokenizer(own, text)
        return own, own.to_str()
    if text.get("vocab_size", CLIP_VOCABULARY) != CLIP_VOCABULARY:
        raise InputError(
            f"{folder}: a vocabulary of {text['vocab_size']} needs its tokenizer.json, which is missing"
        )
    return open_clip.SimpleTokenizer(context_length=length), "SimpleTokenizer"


def _check_tokenizer(tokenizer: FileTokenizer, text: Mapping[str, Any]) -> None:
    size = text.get("vocab_size", CLIP_VOCABULARY)
    if tokenizer.vocab_size > size:
        raise InputError(f"the tokenizer has {tokenizer.vocab_size} tokens, the model only vocab_size={size}")
    ids = tokenizer(["a"])[0]
    if text.get("pool_type", "argmax") == "argmax" and ids.max() != tokenizer.vocab_size - 1:
        raise InputError(
            "text pooling is argmax, but the tokenizer does not end a text with the highest id of its "
            "vocabulary: add the end token last, and a post-processor that appends it"
        )


def _halved(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    if not torch.isfinite(half).all():
        raise InputError(f"{name} has values that half precision cannot hold: save with half=False")
    return half


def brief(error: Exception) -> str:
    """Fit another library's message into one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
