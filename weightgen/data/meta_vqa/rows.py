"""Ragged tasks as tensors: the rows of all tasks end to end, and how some of them are read from the columns of Meta-VQA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from weightgen.data.features.store import FeatureStore
from weightgen.errors import InputError, needs

PARTS = ("support", "query")
AGAIN = "they were made for another version of the data set, run recipes/embed.py again"


class Rows(NamedTuple):
    """The examples of all tasks end to end; task b has those from `starts[b]` to `starts[b + 1]`."""

    images: Tensor
    labels: Tensor
    starts: Tensor

    def to(self, device: str | torch.device) -> Rows:
        return Rows(*(tensor.to(device) for tensor in self))

    def take(self, tasks: Tensor) -> Rows:
        """The examples of some tasks only."""
        positions, starts = ragged(self.starts, tasks)
        return Rows(self.images[positions], self.labels[positions], starts)


def ragged(starts: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the rows of some tasks, end to end, and their new starts."""
    positions, mask = padded(starts, tasks)
    return positions[mask], functional.pad(mask.sum(dim=1).cumsum(0), (1, 0))


def padded(starts: Tensor, tasks: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, N) of the tasks' rows, and where they are real (B, N)."""
    sizes = starts[tasks + 1] - starts[tasks]
    steps = torch.arange(int(sizes.max()), device=tasks.device)
    mask = steps < sizes[:, None]
    return torch.where(mask, starts[tasks, None] + steps, 0), mask


def drawn(positions: Tensor, mask: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """At most `limit` random ones of each task's rows, with torch's global randomness, in the form of `padded`."""
    order = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0)
    chosen = order.argsort(dim=1)[:, :limit]
    return positions.gather(1, chosen), mask.gather(1, chosen)


def columns(table: Any, part: str) -> tuple[Any, Tensor, Tensor]:
    """Image names (an Arrow array), labels and starts of one part of all tasks, end to end."""
    with needs("train"):
        import pyarrow.compute as pc

    images, labels = table[f"{part}_images"], table[f"{part}_labels"]
    lengths = torch.from_numpy(pc.list_value_length(images).to_numpy().astype("int64"))
    starts = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    return (
        pc.list_flatten(images),
        torch.from_numpy(pc.list_flatten(labels).to_numpy().astype("int64")),
        starts,
    )


def rows_of(table: Any, part: str, store: FeatureStore) -> Rows:
    """Translate image names into rows of the store, without those that could not be read.

    Raises:
        InputError: the store does not know an image.
    """
    names, labels, starts = columns(table, part)
    rows = store.rows("images", names)
    unknown = set(names.filter((rows < 0).numpy()).to_pylist()) - set(store.failed)
    if unknown:
        raise InputError(f"{store.folder} has no features of {_some(unknown)}: {AGAIN}")
    kept = rows >= 0
    starts = torch.cat([torch.zeros(1, dtype=torch.long), kept.cumsum(0)])[starts]
    return Rows(rows[kept], labels[kept], starts)


def text_embeds(store: FeatureStore, kind: str, texts: Sequence[str]) -> Tensor:
    """Embeddings (N, E) of N questions or answers.

    Raises:
        InputError: the store has not all of them.
    """
    rows = store.rows(kind, texts)
    if (rows < 0).any():
        unknown = {text for text, row in zip(texts, rows.tolist(), strict=True) if row < 0}
        raise InputError(f"{store.folder} has no features of {_some(unknown)}: {AGAIN}")
    return store.embeds(kind, rows).float()


def _some(names: set[str]) -> str:
    return f"{min(names)!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
