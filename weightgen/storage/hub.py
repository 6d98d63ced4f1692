"""Saved parts: which class a folder holds, and how it is loaded with checks of everything that is read."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from weightgen.errors import InputError
from weightgen.storage.cards import CardFacts, model_card
from weightgen.storage.files import StrPath, kind_of, read_json, read_shapes, read_tensors
from weightgen.storage.shipped import shipped_folder

OWN = ("weightgen.",)
HUB = "hf://"
"""Prefix of the name of a model on the Hugging Face Hub; everything else is a folder."""
PART_FILES = ("config.json", "model.safetensors")
"""What is downloaded of a saved module."""
PIPELINE_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is downloaded of a saved pipeline, in any folder of it: never code, never a pickle."""
MAX_ENTRIES = 10_000
"""Most entries of a list in a saved configuration."""


def class_named(path: Any, trust_remote_code: bool = False) -> Any:
    """The class that a dotted path names.

    Raises:
        InputError: it is not one of weightgen's and `trust_remote_code` is off, or there is no such class.
    """
    if not isinstance(path, str):
        raise InputError(f"the saved model names the class {path!r:.80}: expected a text")
    home, _, name = path.rpartition(".")
    if not trust_remote_code and not path.startswith(OWN):
        raise InputError(
            f"the saved model names the class {path!r}, which is not weightgen's: if you trust its author, "
            "load it with trust_remote_code=True"
        )
    try:
        kind = getattr(importlib.import_module(home), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise InputError(
            f"the saved model names the class {path!r}, which is not installed here: {error}"
        ) from error
    known = isinstance(kind, type) and kind.__module__.startswith(OWN)
    if not (known or (trust_remote_code and callable(kind))):
        raise InputError(f"the saved model names {path!r}, which is no class of weightgen's")
    return kind


def class_path(part: object) -> str:
    """The dotted path of the class of `part`, as `class_named` reads it."""
    return f"{type(part).__module__}.{type(part).__qualname__}"


class SavedModule(PyTorchModelHubMixin, library_name="weightgen"):
    """A module that is saved as `config.json` and `model.safetensors`; derive from it beside `nn.Module`.

    `save_pretrained` and `push_to_hub` are those of `PyTorchModelHubMixin`: they write the arguments of the
    constructor, the state and a card. `push_to_hub("owner/name")` uploads them.
    """

    def generate_model_card(self, **facts: Any) -> ModelCard:
        """The card of this module; `model_card_kwargs` of `save_pretrained` are those of `CardFacts`."""
        kind = type(self)
        summary = (kind.__doc__ or kind.__name__).strip().partition("\n\n")[0]
        usage = f'from {kind.__module__} import {kind.__name__}\n\nmodule = {kind.__name__}.from_pretrained("FOLDER or hf://OWNER/NAME")'
        return model_card(kind.__name__, summary, usage, CardFacts(**facts))

    @classmethod
    def from_pretrained(cls, folder: StrPath, **download: Any) -> Self:  # type: ignore[override]
        """Load what `save_pretrained` wrote, in evaluation mode.

        Args:
            folder: a folder; the name of a model that comes with the package, such as `omniglot-8ch-1shot`; or
                `hf://owner/name`, a model on the Hugging Face Hub, which is the only name that is downloaded.
            **download: further arguments of `huggingface_hub.snapshot_download`, such as `revision`.

        Raises:
            InputError: see `load_part`, or the download fails.
        """
        part: Self = load_part(cls, downloaded(folder, **download))
        return part

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: StrPath | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **arguments: Any,
    ) -> Self:
        # `PyTorchModelHubMixin.from_pretrained` has read the arguments of the constructor; `load_part` fills in the state.
        return cls(**arguments)


def downloaded(folder: StrPath, wanted: Sequence[str] = PART_FILES, **options: Any) -> Path:
    """The folder itself, that of a model that comes with the package, or where the files of `hf://owner/name` were downloaded to.

    Args:
        folder: a folder, the name of such a model, or `hf://owner/name`.
        wanted: patterns of the files to download.
        **options: further arguments of `huggingface_hub.snapshot_download`, such as `revision`.

    Raises:
        InputError: the download fails.
    """
    if not str(folder).startswith(HUB):
        return shipped_folder(Path(folder).expanduser())
    try:
        return Path(snapshot_download(str(folder).removeprefix(HUB), allow_patterns=list(wanted), **options))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot download {folder}: {reason:.200}") from error


def load_part(kind: Any, folder: StrPath) -> Any:
    """Load a module that was saved with `save_pretrained`, in evaluation mode.

    A `SavedModule` is first built without memory and compared with the shapes in the header of the file, so a
    configuration cannot take more memory than its file.

    Args:
        kind: a `SavedModule`, or another class with `PyTorchModelHubMixin`.
        folder: holds `config.json` and `model.safetensors`.

    Raises:
        InputError: a file is missing, truncated or of another model, or a number is not finite.
    """
    folder = Path(folder)
    if kind_of(folder / "config.json") is None:
        state = "has no config.json" if folder.is_dir() else "is no folder"
        raise InputError(f"{folder} {state}: expected a saved {kind.__name__}")
    _check_config(read_json(folder / "config.json"), folder / "config.json")
    file = folder / "model.safetensors"
    shapes = read_shapes(file)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the hub library announces every local load
            if not issubclass(kind, SavedModule):
                return kind.from_pretrained(folder, strict=True).eval()
            with torch.device("meta"), _NoRandomStart():
                compare_state(_built(kind, folder), shapes)
            part = _built(kind, folder)
        part.load_state_dict(tensors := read_tensors(file))
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} is not a saved {kind.__name__}: {reason:.300}") from error
    check_finite(tensors, str(file))
    return part.eval()


class _NoRandomStart(TorchFunctionMode):
    """Leave out random initialisation, for which a tensor without memory would load torch's compiler: 2 s."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def check_finite(tensors: dict[str, Tensor], source: str) -> None:
    """Refuse tensors that hold NaN or infinite numbers.

    Raises:
        InputError: naming the first such tensor and where it comes from.
    """
    for name, value in tensors.items():
        # Not isfinite: it takes as much memory again as the tensor.
        if value.numel() and value.is_floating_point() and not torch.stack(value.aminmax()).isfinite().all():
            raise InputError(f"{source} holds NaN or infinite numbers in {name!r}: make it again")


def _built(kind: Any, folder: Path) -> nn.Module:
    """A module of the kind and with the arguments in `config.json`, without the saved state."""
    return PyTorchModelHubMixin.from_pretrained.__func__(kind, folder)  # type: ignore[attr-defined]


def compare_state(blank: nn.Module, shapes: dict[str, tuple[tuple[int, ...], bool]]) -> None:
    """Refuse a file whose tensors have other names, shapes or types than the state of the module.

    Raises:
        ValueError: naming the first such tensor.
    """
    expected = {
        name: (tuple(value.shape), value.is_floating_point()) for name, value in blank.state_dict().items()
    }
    for name in sorted(expected.keys() | shapes.keys()):
        wanted, found = expected.get(name), shapes.get(name)
        if wanted is None or found is None:
            raise ValueError(f"its file {'has' if wanted is None else 'lacks'} the tensor {name!r}")
        if wanted != found:
            described = [
                f"{'floating-point' if floating else 'integer'} numbers of shape {shape}"
                for shape, floating in (wanted, found)
            ]
            raise ValueError(f"the tensor {name!r} needs {described[0]}, the file has {described[1]}")


def _check_config(config: Any, path: Path) -> None:
    """Refuse a configuration that is no object, or holds a list so long that it can only be damage."""
    if not isinstance(config, dict):
        raise InputError(f"{path} does not hold the arguments of a saved model: expected a JSON object")
    for name, value in config.items():
        if isinstance(value, list) and len(value) > MAX_ENTRIES:
            raise InputError(f"{path} has {len(value)} entries in {name!r}: expected at most {MAX_ENTRIES}")
