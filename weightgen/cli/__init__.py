"""The command line."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from weightgen.errors import one_line_errors

__all__ = ["main"]


@one_line_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Run a command of the command line; bad input is one line on stderr and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack letters of a prompt or a path
    from weightgen.cli.parser import parser

    args = parser().parse_args(argv)
    args.run(args)
