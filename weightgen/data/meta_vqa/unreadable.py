"""Which tasks of Meta-VQA become too small because images of them cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from weightgen.data.meta_vqa.rows import PARTS, columns
from weightgen.errors import needs

if TYPE_CHECKING:
    import datasets


class Fewest(NamedTuple):
    """What a task must keep when some of its images could not be read; the defaults are Meta-VQA's rules.

    Attributes:
        examples: support and query images, together.
        answers: answers that at least one of its images has.
    """

    examples: int = 21
    answers: int = 2


DEFAULT_FEWEST = Fewest()


def too_small(
    split: datasets.Dataset, failed: Mapping[str, str], fewest: Fewest = DEFAULT_FEWEST
) -> list[int]:
    """Find the tasks that lose images and are then too small.

    Args:
        split: rows of Meta-VQA.
        failed: the names of the images that cannot be read.
        fewest: what a task must keep; besides, one support and one query image.

    Returns:
        The numbers of those rows.
    """
    with needs("train"):
        import pyarrow as pa
        import pyarrow.compute as pc

    if not failed:
        return []
    table = split.with_format("arrow")[:]
    names = pa.array(failed, pa.string())
    left = {part: torch.zeros(len(table), dtype=torch.long) for part in PARTS}
    lost = torch.zeros(len(table), dtype=torch.bool)
    answers: list[Tensor] = []
    for part in PARTS:
        flat, labels, starts = columns(table, part)
        gone = torch.from_numpy(pc.is_in(flat, value_set=names).to_numpy().astype(bool))
        task = torch.repeat_interleave(starts.diff())
        left[part] = torch.bincount(task[~gone], minlength=len(table))
        lost[task[gone]] = True
        answers.append(torch.stack([task[~gone], labels[~gone]]))
    different = torch.bincount(torch.cat(answers, 1).unique(dim=1)[0], minlength=len(table))
    total, least = left["support"] + left["query"], torch.minimum(left["support"], left["query"])
    small = (total < fewest.examples) | (different < fewest.answers) | (least == 0)
    return (lost & small).nonzero().flatten().tolist()
