"""How a recipe runs from the command line. For recipes only."""

import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from weightgen.errors import InputError, one_line_errors
from weightgen.training.config import parse
from weightgen.training.interrupts import Stopped, raise_stopped
from weightgen.training.processes import speaks

T = TypeVar("T")


def run(main: Callable[[T], None], schema: type[T], doc: str | None) -> None:
    """Read the settings from the command line, and run a recipe with them.

    Errors of the user are one line and exit status 2, printed by one process; Ctrl-C gives 130 and SIGTERM 143.

    Args:
        main: the recipe, a function of its settings.
        schema: the dataclass of its settings.
        doc: `__doc__` of the recipe, for `--help`.
    """
    signal.signal(signal.SIGTERM, raise_stopped)
    try:
        with one_line_errors():
            _run(main, schema, doc)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(main: Callable[[T], None], schema: type[T], doc: str | None) -> None:
    try:
        main(parse(schema, doc))
    except Stopped as stopped:
        if speaks():
            print(stopped, file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None
    except InputError:
        if not speaks():
            raise SystemExit(2) from None
        raise
