"""An image tower that is made when the first picture comes: a question needs none, and timm takes a second to import."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from weightgen.encoders.image_tower import ImageTower
from weightgen.encoders.packaged_towers import packaged_weights
from weightgen.errors import InputError


class LateTower:
    """A packaged image tower that is known before it is made: its file has been checked by its SHA-256.

    Everything but the facts below is that of the `ImageTower`.

    Args:
        record: its `model`, `digest` and `preprocessing`, as a saved encoder has them.
        dim: the length F of its features.
        source: the folder with the record.
        device: where it runs.

    Raises:
        InputError: the package holds another file; or, when it is made, its digest is another one.
    """

    named = True

    def __init__(self, record: dict[str, Any], dim: int, source: Path, device: str | torch.device) -> None:
        self.name, self.digest, self.dim = str(record["model"]), str(record["digest"]), dim
        self._how = {key: record["preprocessing"][key] for key in ("size", "resize_mode")}
        self._source, self._device = source, torch.device(device)
        if packaged_weights(self.name) is None:  # then it comes from the Hub, and is made at once
            self._made  # noqa: B018

    @cached_property
    def _made(self) -> ImageTower:
        with torch.inference_mode(False):
            made = ImageTower.load(self.name, **self._how, device=self._device)
        check_digest(made, self.digest, self._source)
        if made.dim != self.dim:
            raise InputError(
                f"{self._source} has an alignment for {self.dim} features, but {self.name} gives {made.dim}"
            )
        return made

    def to(self, device: str | torch.device) -> None:
        """Move it, or make it there."""
        self._device = torch.device(device)
        if "_made" in vars(self):
            self._made.to(device)

    def __call__(self, *args: Any) -> Any:
        return self._made(*args)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._made, name)


def check_digest(tower: Any, digest: str, source: Path) -> None:
    """Refuse a tower that is not the one a saved encoder was made with.

    Raises:
        InputError: with both digests.
    """
    if tower.digest != digest:
        raise InputError(
            f"{source} was made with another {tower.name}: its digest is {digest[:12]}, that of the one here {tower.digest[:12]}"
        )
