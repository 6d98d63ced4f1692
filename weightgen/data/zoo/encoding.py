"""Latents of a zoo: all its weights through the encoder of an autoencoder, in batches.

Notation: R draws, T tasks, M rows, P weights, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from weightgen.data.zoo.reader import Zoo
from weightgen.errors import InputError
from weightgen.nn.large import Rows, in_batches


@torch.no_grad()
def encode_rows(hvae: Any, rows: Rows) -> Normal:
    """The posteriors of rows (M, P), with shape (M, Z).

    Raises:
        InputError: some weights are not finite.
    """
    parts = []
    for batch in in_batches(rows):
        if not batch.isfinite().all():
            raise InputError("the weights hold NaN or infinite numbers: make them again")
        parts.append(hvae.encode(batch))
    return Normal(torch.cat([part.mean for part in parts]), torch.cat([part.stddev for part in parts]))


def encode_zoo(zoo: Zoo, hvae: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latent of each draw of each task, both with shape (R, T, Z)."""
    rows = zoo.rows()
    found = encode_rows(hvae, rows)
    place = torch.empty(zoo.index.rows, dtype=torch.int64)
    place[rows.numbers] = torch.arange(len(rows))
    index = place[zoo.numbers].to(found.mean.device)
    return found.mean[index], found.stddev[index]
