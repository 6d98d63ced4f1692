"""Shapes such as (*, P) in docstrings, for the pages of the reference: there a bare star would begin emphasis."""

import re
from typing import Any

import griffe

STAR = re.compile(r"(?<=[(\[ ])\*(?=[,)\]])")


class Shapes(griffe.Extension):
    """Escape the stars of shapes."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of an object after it was read."""
        if obj.docstring:
            obj.docstring.value = STAR.sub(r"\\*", obj.docstring.value)
