"""Reading and writing files: nothing is ever half-written, nothing unreadable passes silently."""

import errno
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weightgen.errors import InputError

StrPath = str | os.PathLike[str]
_FLOATS = {"F64", "F32", "F16", "BF16"}  # types in the header of a safetensors file
_INTEGERS = {"I64", "I32", "BOOL"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk, which name no file


def check_new(target: StrPath) -> None:
    """Refuse a file or folder that exists; before long work whose result it is to be.

    Raises:
        InputError: `target` exists.
    """
    if kind_of(target):
        raise InputError(f"{target} exists already: remove it or choose another place to write to")


def check_output(target: StrPath) -> None:
    """Refuse a file that cannot be written; before long work whose result it is to be. An existing file may be replaced.

    Raises:
        InputError: `target` is a folder, a device or a pipe, or lies where nothing can be written.
    """
    kind_of(target)  # refuses impossible names, before the path is resolved
    final = Path(os.path.realpath(target))
    if kind_of(final) == "folder":
        raise InputError(f"{target} is a folder: expected the name of a file to write")
    _check_regular(final, target)
    parent = next(folder for folder in final.parents if os.path.exists(folder))
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise InputError(f"cannot write {target}: {parent} is no folder that can be written to")


def _check_regular(final: Path, target: StrPath) -> None:
    """Refuse devices and pipes: renaming over one would turn it into a file."""
    if kind_of(final) == "other":
        raise InputError(f"{target} is neither a file nor a folder: choose another name to write to")


def kind_of(path: StrPath) -> str | None:
    """What is there: `file`, `folder`, `other` (a device or a pipe), or None.

    Raises:
        InputError: it may not be looked at, or no file can have that name.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(f"cannot read {str(path)[:200]!a}: {reason}") from error
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


@contextmanager
def written_beside(target: StrPath, overwrite: bool = False) -> Iterator[Path]:
    """Yield a path beside `target`; rename what was made there to `target`, or remove it on any exception.

    Args:
        target: the file or folder to be; missing parent folders are made.
        overwrite: whether a file may replace a file, and a folder a folder.

    Yields:
        A path that does not exist yet, where the caller makes one file or one folder.

    Raises:
        InputError: `target` exists and may not be replaced, or nothing can be written there.
    """
    kind_of(target)  # refuses impossible names
    final = Path(os.path.realpath(target))
    _check_regular(final, target)
    if not overwrite:
        check_new(target)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {final.parent}: {error.strerror}") from error
    partial = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        _share(partial)
        _rename(partial, final, overwrite)
    except (OSError, SafetensorError) as error:  # those of reading are InputErrors already
        told = isinstance(error, SafetensorError | shutil.Error) or error.errno in _FULL
        if told or str(getattr(error, "filename", None) or "").startswith(str(partial)):
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InputError(f"cannot write {target}: {reason:.200}") from error
        raise
    finally:
        _remove(partial)


def final_name(target: StrPath) -> str:
    """The name of a file or folder; of one that `written_beside` yields, the name that it will have."""
    name = Path(target).name
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.partial", name)
    return match[1] if match else name


def _share(partial: Path) -> None:
    """Give files the mode that the user's umask says; safetensors makes files that nobody else may read."""
    files = [partial] if partial.is_file() else [path for path in partial.rglob("*") if path.is_file()]
    if private := [path for path in files if stat.S_IMODE(path.stat().st_mode) == 0o600]:
        probe = partial.with_suffix(".mode")
        probe.touch(exist_ok=False)  # asking for the umask would change it for all threads
        mode = stat.S_IMODE(probe.stat().st_mode)
        probe.unlink()
        for path in private:
            path.chmod(mode)


def _rename(partial: Path, final: Path, overwrite: bool) -> None:
    if not final.exists():
        partial.rename(final)
    elif not overwrite or final.is_dir() != partial.is_dir():
        raise InputError(f"{final} exists already and may not be replaced by what was written")
    elif partial.is_dir():
        # No single step replaces a full folder: move it aside, and put it back if the second step fails.
        aside = partial.with_suffix(".old")
        final.rename(aside)
        try:
            partial.rename(final)
        except BaseException:
            aside.rename(final)
            raise
        _remove(aside)
    else:
        partial.replace(final)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def read_json(path: StrPath, infinite: bool = False) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        infinite: whether NaN and Infinity are allowed, which are no JSON; the schedulers of diffusers write -Infinity.

    Raises:
        InputError: the file is missing, unreadable or not JSON.
    """
    try:
        if kind_of(path) not in ("file", None):
            raise InputError(f"{path} is no file; expected a JSON file")
        text = Path(path).read_text(encoding="utf-8-sig")  # Windows puts a byte-order mark first
        return parse_json(text, infinite)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; expected a JSON file") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON file: {error}") from error


def parse_json(text: str, infinite: bool = False) -> Any:
    """Parse strict JSON: no NaN and no infinity unless `infinite`, and no halves of characters, which no file could be written with.

    Raises:
        ValueError: it is something else.
        RecursionError: it is nested too deeply.
    """
    found = json.loads(text, parse_constant=None if infinite else _no_number)
    if re.search(r"\\u[dD][89a-fA-F]", text):
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"it holds {name}")


def read_object(path: StrPath) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: see `read_json`; or it holds something else.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {type(found).__name__} {str(found)[:40]!r}: expected a JSON object")
    return found


def write_json(path: StrPath, obj: Any, overwrite: bool = True) -> None:
    """Write `obj` as strict JSON (no NaN or infinity), indented."""
    try:
        text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:  # of numbers and texts that come from files of others
        raise InputError(f"cannot write {path}: {error}") from error
    with written_beside(path, overwrite) as partial:
        partial.write_bytes(text + b"\n")


@contextmanager
def opened_tensors(path: StrPath) -> Iterator[Any]:
    """An open safetensors file, whose errors are one line: see `read_tensors`."""
    try:
        if kind_of(path) != "file":
            raise InputError(f"no file {path}; expected a safetensors file")
        if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise InputError(f"cannot read {path}: Permission denied")
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, RuntimeError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is truncated or not a safetensors file: {error}") from error


def read_tensors(path: StrPath) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file, on the CPU.

    The file is mapped into memory while one of them is there, and what is used of it counts as memory of the process.

    Raises:
        InputError: the file is missing, truncated or of another format.
    """
    with opened_tensors(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def read_shapes(path: StrPath) -> dict[str, tuple[tuple[int, ...], bool]]:
    """The shape of every tensor of a safetensors file, and whether it holds floating-point numbers; reads the header only.

    Raises:
        InputError: the file is missing, truncated or of another format, or has numbers of 8 bits.
    """
    found = {}
    with opened_tensors(path) as file:
        for name in file.keys():
            part = file.get_slice(name)
            if part.get_dtype() not in _FLOATS | _INTEGERS:
                raise InputError(
                    f"{path} has numbers of type {part.get_dtype()} in {name!r}: expected float32"
                )
            found[name] = tuple(part.get_shape()), part.get_dtype() in _FLOATS
    return found


def read_metadata(path: StrPath) -> dict[str, str]:
    """Read the text that `write_tensors` stored beside the tensors; empty where there is none.

    Raises:
        InputError: the file is missing, truncated or of another format.
    """
    with opened_tensors(path) as file:
        return dict(file.metadata() or {})


def write_tensors(
    path: StrPath,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    overwrite: bool = True,
) -> None:
    """Write tensors as one safetensors file; tensors that share memory are written separately."""
    owned: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        owned[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    with written_beside(path, overwrite) as partial:
        try:
            save_file(owned, partial, metadata=metadata)
        except (SafetensorError, UnicodeError) as error:  # of the file system, or of names that come from it
            raise InputError(f"cannot write {path}: {error}") from error
