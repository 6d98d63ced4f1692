"""Pickles of plain values: read, and nothing that lies in them is run.

A pickle is a program that may name any function of the interpreter and call it. Here it may use only the few names by which NumPy writes
arrays of numbers and Python 3 writes bytes, and each of them stands for a small class of this file that checks what it is given. Neither
NumPy's own unpickling nor anything else that a file could name is called.
"""

import pickle
import re
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from weightgen.errors import InputError
from weightgen.storage.files import StrPath


def read_plain_pickle(path: StrPath) -> Any:
    """Read a pickle of dictionaries, lists, tuples, strings, bytes, numbers and NumPy arrays of numbers.

    Files of Python 2 and 3 and of any NumPy are read, in every protocol (0 to 5). A NumPy scalar comes out as a plain number, and a
    string of Python 2 as if it were Latin-1.

    Raises:
        InputError: the file is missing, truncated or no pickle, or it holds anything else; then nothing of it was run.
    """
    try:
        with open(path, "rb") as file:
            return _plain(_Unpickler(file, encoding="latin1").load(), {})
    except _Refused as error:
        raise InputError(f"{path} {error}: only plain values and arrays of numbers are read") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; expected a pickle") from error
    except Exception as error:  # a damaged file can raise anything
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise InputError(f"{path} is truncated, damaged or no pickle: {reason:.200}") from error


class _Refused(Exception):
    """Something is in the file that is not read."""


class _NoState:
    """Has no state: without this, a file could set attributes of the classes here."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise _Refused("gives a state to what has none")


class _Dtype:
    """In place of `numpy.dtype`."""

    __slots__ = ("dtype",)

    def __init__(self, name: str, *flags: object) -> None:
        if not isinstance(name, str) or not re.fullmatch("b1|[iu][1248]|f[248]", name):
            raise _Refused(f"has an array of type {name!r:.40}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *structure = state[:5]  # version, byte order, then what only compound types have
        if order not in ("<", ">", "=", "|") or any(part is not None for part in structure):
            raise _Refused("has an array of a compound type")
        self.dtype = self.dtype.newbyteorder(order)


class _NdArray(_NoState):
    """In place of `numpy.ndarray`, which only tells what is to be reconstructed."""


class _Reconstructed:
    """In place of `numpy._core.multiarray._reconstruct`: an array whose numbers come as its state."""

    __slots__ = ("array",)

    def __init__(self, kind: object, shape: object, code: object) -> None:
        if kind is not _NdArray:
            raise _Refused("has a subclass of an array")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _numbers(data, dtype, shape, bool(fortran))


class _FromBuffer(_NoState):
    """In place of `numpy._core.numeric._frombuffer`: an array in protocol 5."""

    __slots__ = ("array",)

    def __init__(self, data: object, dtype: object, shape: tuple[int, ...], order: str) -> None:
        self.array = _numbers(data, dtype, shape, order == "F")


class _Scalar(_NoState):
    """In place of `numpy._core.multiarray.scalar`."""

    def __new__(cls, dtype: object, data: object) -> Any:  # a plain number
        return _numbers(data, dtype, (), False).item()


class _Encoded(_NoState):
    """In place of `_codecs.encode`, by which Python 3 writes bytes in protocols 0 to 2."""

    def __new__(cls, text: str, encoding: str) -> Any:  # bytes
        if encoding != "latin1":
            raise _Refused(f"encodes text as {encoding!r:.40}")
        return text.encode("latin1")


class _NoBytes(_NoState):
    """In place of `bytes`, by which Python 3 writes empty bytes in protocols 0 to 2."""

    def __new__(cls) -> Any:  # bytes
        return b""


def _numbers(data: object, dtype: object, shape: tuple[int, ...], fortran: bool) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype):
        raise _Refused("has an array without a type")
    if isinstance(data, str):  # of Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise _Refused("has an array of objects")
    if min(shape, default=0) < 0:
        raise _Refused("has an array of negative size")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran else "C")


_NAMES = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _NdArray,
    ("_codecs", "encode"): _Encoded,
    ("__builtin__", "bytes"): _NoBytes,
    ("builtins", "bytes"): _NoBytes,
}
for _core in ("numpy.core", "numpy._core"):  # before NumPy 2, and since
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _Reconstructed
    _NAMES[f"{_core}.multiarray", "scalar"] = _Scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _FromBuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Look a name up among those allowed, never among what is installed."""
        if (module, name) not in _NAMES:
            raise _Refused(f"names {f'{module}.{name}'!r:.80}, which would be run")
        return _NAMES[module, name]


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """`value` with arrays in place of their stand-ins; what appears twice is made once."""
    kind = type(value)
    if value is None or kind in (str, bytes, bool, int, float):
        return value
    if kind in (_Reconstructed, _FromBuffer):
        return value.array
    if id(value) in seen:
        return seen[id(value)]
    if kind is list:
        items = seen[id(value)] = []
        items.extend(_plain(item, seen) for item in value)
        return items
    if kind is dict:
        table = seen[id(value)] = {}
        table.update((_plain(key, seen), _plain(item, seen)) for key, item in value.items())
        return table
    if kind is tuple:
        return seen.setdefault(id(value), tuple(_plain(item, seen) for item in value))
    raise _Refused(f"holds a {kind.__name__}")
