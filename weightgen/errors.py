"""The one error that a user can cause, and how command lines show it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A caller's mistake, told in one line: what was expected, what came, what to write instead."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an `InputError` into `error: ...` on stderr and exit status 2, and Ctrl-C into exit status 130; let all else through.

    Serves as a context (`with one_line_errors():`) and as a decorator (`@one_line_errors()`).
    """
    try:
        yield
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
