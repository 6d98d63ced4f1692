"""The one error that a user can cause, checks of numbers and of packages that raise it, and how command lines show it."""

import math
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class InputError(ValueError):
    """A caller's mistake in one line: what was expected, what was given, and what to write instead."""


MAX_WIDTH = 1_000_000
"""Largest width of a layer; the paper's largest is 16,384."""

MAX_LAYERS = 1000
"""Largest number of layers, steps inside a network, or heads."""


def check_range(low: float = 0, high: float = math.inf, /, **values: float) -> None:
    """Refuse numbers that are not finite or not from `low` to `high`, both included.

    Args:
        low: smallest number allowed.
        high: largest number allowed.
        **values: the numbers, by the name that the caller knows.

    Raises:
        InputError: naming the first such number.
    """
    for name, value in values.items():
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (known and low <= value <= high and math.isfinite(value)):
            limits = f"from {low:,} up" if high == math.inf else f"from {low:,} to {high:,}"
            raise InputError(f"{name} must be a number {limits}, got {value!r}")


def check_sizes(low: int = 1, high: int = MAX_WIDTH, /, **values: int | Sequence[int]) -> None:
    """Refuse sizes that are not whole numbers from `low` to `high`.

    Args:
        low: smallest size allowed.
        high: largest size allowed.
        **values: sizes, or lists of at most `MAX_LAYERS` sizes, by name.

    Raises:
        InputError: naming the first such size.
    """
    for name, value in values.items():
        sizes = value if isinstance(value, list | tuple) else [value]
        if len(sizes) > MAX_LAYERS:
            raise InputError(f"{name} must have at most {MAX_LAYERS} numbers, got {len(sizes)}")
        for size in sizes:
            if not isinstance(size, int) or isinstance(size, bool) or not low <= size <= high:
                raise InputError(f"{name} must be a whole number from {low:,} to {high:,}, got {size!r}")


def install(extra: str) -> str:
    """The command that installs an extra of weightgen."""
    return f"pip install 'weightgen[{extra}]'"


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import optional packages in this context, so that a missing one is told in one line.

    with needs("clip"):
        import open_clip

    Args:
        extra: the extra in `pyproject.toml` that installs them.

    Raises:
        InputError: a package is missing; the line has the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "weightgen":  # a mistake of this library, and nothing to install
            raise
        raise InputError(f"this needs the package {package}, which is missing: {install(extra)}") from error


def _shown(message: str) -> str:
    """An error for standard error: one line; in a terminal in red, unless NO_COLOR is set, and broken between words at its width."""
    if not sys.stderr.isatty():
        return f"error: {message}"
    width = shutil.get_terminal_size().columns
    shown = textwrap.fill(f"error: {message}", width, break_long_words=False, break_on_hyphens=False)
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return shown
    return shown.replace("error:", "\033[1;31merror:\033[0m", 1)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an `InputError` as `error: ...` and exit with status 2; exit with status 130 on Ctrl-C. Other exceptions pass.

    It can be used as a context (`with one_line_errors():`) and as a decorator (`@one_line_errors()`).
    """
    try:
        yield
    except InputError as error:
        print(_shown(" ".join(str(error).split())), file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
