"""Which field of the page an error belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from weightgen.errors import InputError


class FieldError(InputError):
    """A mistake in one field of the page.

    Args:
        field: the name of the field.
        message: one sentence about it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@contextmanager
def field(name: str) -> Iterator[None]:
    """Tell the name of the field with every `InputError` that is raised inside.

    Raises:
        FieldError: in place of the error.
    """
    try:
        yield
    except FieldError:
        raise
    except InputError as error:
        raise FieldError(name, " ".join(str(error).split())) from error
