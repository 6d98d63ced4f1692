"""What a HyperTransformer writes and looks at: the attention of its blocks, and how its convolutions differ.

Notation: B tasks, T tokens that attend, S tokens that are attended to.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from weightgen.metrics import task_accuracy
from weightgen.nn.set_transformer import Attention
from weightgen.tasks import Examples


def attended(attention: Attention, query: Tensor, key: Tensor) -> Tensor:
    """Shares (B, heads, T, S) of projected tokens."""
    query, key = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in (query, key))
    return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)


def watch(blocks: Any, seen: list[dict[str, list[Tensor]]]) -> None:
    """Keep what the projections of each block return."""
    for block, parts in zip(blocks, seen, strict=True):
        for name in ("query", "key"):
            hook = partial(lambda kept, module, given, made: kept.append(made), parts.setdefault(name, []))
            getattr(block.attention, name).register_forward_hook(hook)


def shares_of(weights: Tensor, labels: Tensor, slots: int) -> dict[str, float]:
    """Where the attention of the placeholders goes; `weights` (B, heads, T, S), placeholders first."""
    rows = weights[:, :, :slots].mean(dim=1)  # (B, classes, S)
    own = (labels[:, None] == torch.arange(slots)[:, None]).float()  # (B, classes, samples)
    same, samples = (rows[:, :, slots:] * own).sum(-1), rows[:, :, slots:].sum(-1)
    parts = {"own class": same, "other samples": samples - same, "placeholders": rows[:, :, :slots].sum(-1)}
    return {name: round(value.mean().item(), 4) for name, value in parts.items()}


def likeness_of(kernels: Tensor) -> float:
    """Mean correlation between the output channels of kernels (B, channels, ...)."""
    rows = kernels.flatten(2)
    rows = normalize(rows - rows.mean(dim=2, keepdim=True), dim=2)
    channels = rows.shape[1]
    return round(((rows @ rows.mT).sum(dim=(1, 2)).mean().item() - channels) / (channels * (channels - 1)), 4)


def accuracies(network: Any, params: dict[str, Tensor], query: Examples) -> Tensor:
    """Accuracy of each episode with its own convolutions, and with those of the episode before, with shape (2, B)."""
    others = {
        name: value.roll(1, dims=0) if name.startswith("convs.") else value for name, value in params.items()
    }
    return torch.stack(
        [task_accuracy(network.run_batch(one, query.inputs), query.labels) for one in (params, others)]
    )


def variation_of(weights: Tensor) -> float:
    """‖W − W̄‖ / ‖W̄‖ of weights (episodes, ...), the root mean square over episodes; W̄ is the mean over episodes."""
    mean = weights.mean(dim=0)
    return round(((weights - mean).flatten(1).square().sum(1).mean().sqrt() / mean.norm()).item(), 4)
