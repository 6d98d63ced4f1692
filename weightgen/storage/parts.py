"""Reading parts of safetensors files: names, types, one tensor, some rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from weightgen.errors import InputError
from weightgen.storage.files import StrPath, opened_tensors


def read_names(path: StrPath) -> list[str]:
    """The names of the tensors of a safetensors file, sorted; see `read_tensors`."""
    with opened_tensors(path) as file:
        return sorted(file.keys())


def read_tensor(path: StrPath, name: str) -> Tensor:
    """Read one tensor of a safetensors file, on the CPU; see `read_tensors`.

    Raises:
        InputError: the file is missing, truncated or of another format, or has no such tensor.
    """
    with opened_tensors(path) as file:
        if name not in file.keys():
            raise InputError(f"{path} has no tensor {name!r}")
        return file.get_tensor(name)


def read_rows(path: StrPath, name: str, rows: Sequence[int] | None = None) -> Tensor:
    """Read some rows of one tensor (M, *) of a safetensors file, or all: of the rest nothing is read.

    Raises:
        InputError: the file is missing, truncated or of another format, or has no such tensor.
    """
    with opened_tensors(path) as file:
        if name not in file.keys():
            raise InputError(f"{path} has no tensor {name!r}")
        part = file.get_slice(name)
        # A copy: a view of the file would keep all of it in memory that is touched.
        return part[:].clone() if rows is None else torch.stack([part[row] for row in rows])


def read_type(path: StrPath, name: str) -> str:
    """The type of the numbers of a tensor, as the header says it: F32, F16, I64 and so on.

    Raises:
        InputError: see `read_tensor`.
    """
    with opened_tensors(path) as file:
        if name not in file.keys():
            raise InputError(f"{path} has no tensor {name!r}")
        return str(file.get_slice(name).get_dtype())
