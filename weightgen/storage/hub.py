"""Loading saved parts: which class a folder holds, and what a damaged folder says."""

from __future__ import annotations

import contextlib
import importlib
import io
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, read_json, read_tensors

OWN = ("weightgen.",)


class SavedModule(PyTorchModelHubMixin):
    """`PyTorchModelHubMixin` that says in one line when there is no such folder."""

    @classmethod
    def from_pretrained(cls, folder: StrPath, **options: Any) -> Any:  # type: ignore[override]
        """Load what `save_pretrained` wrote.

        Args:
            folder: the folder, or the name of a model on the Hub.
            **options: of `PyTorchModelHubMixin.from_pretrained`.

        Raises:
            InputError: there is no such folder, and the Hub gives no such model.
        """
        local = Path(folder).expanduser()
        if local.is_dir():
            return super().from_pretrained(local, **options)
        try:
            return super().from_pretrained(str(folder), **options)
        except (OSError, TypeError, ValueError) as error:
            raise InputError(
                f"there is no folder {folder}, and the Hub gives no {cls.__name__} of that name ({type(error).__name__})"
            ) from error


def class_named(path: str, trust_remote_code: bool = False) -> Any:
    """The class that a dotted path names.

    Raises:
        InputError: it is not one of weightgen's and `trust_remote_code` is off, or there is no such class.
    """
    home, _, name = path.rpartition(".")
    if not trust_remote_code and not path.startswith(OWN):
        raise InputError(
            f"the saved model names the class {path!r}, which is not weightgen's: if you trust its author, "
            "load it with trust_remote_code=True"
        )
    try:
        return getattr(importlib.import_module(home), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise InputError(
            f"the saved model names the class {path!r}, which is not installed here: {error}"
        ) from error


def class_path(part: object) -> str:
    """The dotted path of the class of `part`, as `class_named` reads it."""
    return f"{type(part).__module__}.{type(part).__qualname__}"


def load_part(kind: Any, folder: StrPath) -> Any:
    """Load a module that was saved with `save_pretrained`, in evaluation mode.

    Args:
        kind: a class with `PyTorchModelHubMixin`.
        folder: holds `config.json` and `model.safetensors`.

    Raises:
        InputError: a file is missing, truncated, or of another model.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json: expected a saved {kind.__name__}")
    read_json(folder / "config.json")
    read_tensors(folder / "model.safetensors")  # says in one line what is wrong with the file
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the hub library announces every local load
            return kind.from_pretrained(folder, strict=True).eval()
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} is not a saved {kind.__name__}: {reason:.300}") from error
