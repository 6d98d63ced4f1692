"""Choice of support sets: random splits, a number of shots of each class, sets of all sizes, and the weights written from such sets.

Notation: B tasks of T, R draws, N examples, C classes, P weights; labels of padding are -100.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.nn.across_processes import shared_max
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch, batches


def resplit(batch: TaskBatch, support_fraction: float | Tensor = 0.7) -> TaskBatch:
    """Draw new support and query sets from all examples of each task, with torch's global randomness.

    Both sets hold the inputs of all examples. In each set, the labels of the other set's examples are -100.

    Args:
        batch: B tasks.
        support_fraction: fraction of each task's examples that goes to the support set, one number or one per
            task (B,).

    Returns:
        The same tasks with other sets, disjoint.

    Raises:
        InputError: a fraction that is not in [0, 1].
    """
    if not isinstance(support_fraction, Tensor):
        check_range(0, 1, support_fraction=support_fraction)
    inputs = torch.cat([batch.support.inputs, batch.query.inputs], dim=1)
    labels = torch.cat([batch.support.labels, batch.query.labels], dim=1)
    valid = labels != PADDING_LABEL
    order = torch.rand(labels.shape, device=labels.device).masked_fill(~valid, 2.0)
    rank = order.argsort(dim=1).argsort(dim=1)
    fraction = torch.as_tensor(support_fraction, device=labels.device).reshape(-1, 1)
    in_support = rank < (fraction * valid.sum(dim=1, keepdim=True)).round()
    return batch._replace(
        support=Examples(inputs, labels.masked_fill(~in_support, PADDING_LABEL)),
        query=Examples(inputs, labels.masked_fill(in_support, PADDING_LABEL)),
    )


def keep_shots(examples: Examples, shots: int | Tensor | None, order: Tensor) -> Examples:
    """Keep the labels of at most `shots` examples of each class of each task; the others become padding.

    With the same `order`, the examples kept for fewer shots are a subset of those kept for more shots.

    Args:
        examples: of B tasks.
        shots: examples per class, one number or one per class (B, C); classes that have fewer keep all. None
            keeps all examples.
        order: random numbers (B, N); the smallest of a class are kept.

    Returns:
        The same inputs (B, N, *), with labels (B, N) of which some are now -100.

    Raises:
        InputError: negative shots.
    """
    if shots is None:
        return examples
    labels = examples.labels
    limits = torch.as_tensor(shots, device=labels.device)
    if bool((limits < 0).any()):
        raise InputError(f"expected a number of shots from 0 up, got {int(limits.min())}")
    turn = order.argsort(dim=1)
    turned = labels.gather(1, turn)
    number = limits.shape[-1] if limits.ndim else max(int(labels.max()) + 1, 1)
    # (B, N, C): how many of each class so far, this one included
    rank = (turned.unsqueeze(-1) == torch.arange(number, device=labels.device)).cumsum(dim=1)
    own = rank.gather(-1, turned.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    limit = limits.gather(1, turned.clamp_min(0)) if limits.ndim else limits
    kept = torch.where(own <= limit, turned, PADDING_LABEL)
    return examples._replace(labels=torch.empty_like(labels).scatter(1, turn, kept))


def shot_order(batch: TaskBatch, rows: Tensor, seed: int) -> Tensor:
    """Random numbers (B, N) that depend on the seed and on the task, but not on the other tasks of the batch."""
    length = batch.support.labels.shape[1]
    drawn = [
        torch.rand(length, generator=Generator().manual_seed(seed * 1_000_003 + row)) for row in rows.tolist()
    ]
    return torch.stack(drawn).to(batch.support.inputs.device)


def draw_support(
    batch: TaskBatch, max_shots: int = 12, support_fraction: float = 0.7, shared: bool = False
) -> TaskBatch:
    """Draw support sets of all sizes from all examples of each task, with torch's global randomness.

    The logarithm of a task's number of shots n is uniform on [0, log(max_shots + 1)); n is rounded down and
    at least 1. Half of the tasks get n examples of each class, or all where a class has fewer. The other half
    get a number per class that is uniform on 0 … 2 n. Every task gets at least one example.

    Args:
        batch: B tasks.
        max_shots: largest n.
        support_fraction: fraction of the examples that may be drawn; the others are the query set.
        shared: whether several processes share the batch, which then keeps as many columns in each of them.

    Returns:
        The same tasks with disjoint sets. Columns of the support set that are padding for all tasks are
        removed.

    Raises:
        InputError: `max_shots` is below 1, or the fraction is not in [0, 1].
    """
    check_sizes(max_shots=max_shots)
    batch = resplit(batch, support_fraction)
    support, device = batch.support, batch.support.labels.device
    classes, rows = batch.context["answers"].shape[1], len(support.labels)
    n = (torch.rand(rows, 1, device=device) * torch.tensor(max_shots + 1.0).log()).exp().long()
    uneven = (torch.rand(rows, classes, device=device) * (2 * n + 1)).long()
    limits = torch.where(torch.rand(rows, 1, device=device) < 0.5, n, uneven)
    order = torch.rand(support.labels.shape, device=device)
    drawn = keep_shots(support, limits, order).labels
    none = (drawn == PADDING_LABEL).all(dim=1, keepdim=True)
    # One of each task is enough for those that have lost all.
    first = order.masked_fill(support.labels == PADDING_LABEL, 2.0).argmin(dim=1, keepdim=True)
    lone = torch.zeros_like(none).expand_as(drawn).scatter(1, first, none)
    drawn = torch.where(lone, support.labels, drawn)
    return batch._replace(support=drop_padding(support._replace(labels=drawn), shared))


def drop_padding(examples: Examples, shared: bool = False) -> Examples:
    """Move the padding of each task to the end, and remove the columns that are padding for all tasks, except for one.

    Args:
        examples: of B tasks, with inputs (B, N, E) and labels (B, N).
        shared: whether "all tasks" are those of all processes.
    """
    real = examples.labels != PADDING_LABEL
    kept = real.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    longest = real.sum(dim=1).max()
    kept = kept[:, : max(1, shared_max(longest) if shared else int(longest))]
    index = kept.unsqueeze(-1).expand(-1, -1, examples.inputs.shape[-1])
    return Examples(examples.inputs.gather(1, index), examples.labels.gather(1, kept))


def like_sized(examples: Examples, padding: float = 0.25) -> list[tuple[Tensor, Examples]]:
    """Split B tasks into groups of like size, each without the padding that its largest task does not need.

    So a batch costs what its examples cost, whatever the largest task.

    Args:
        examples: of B tasks, with padding anywhere.
        padding: the padding of a group is at most so many times its content; with infinity all tasks are one group.

    Returns:
        For each group, the numbers of its tasks (b,), and their examples as `drop_padding` leaves them, (b, n, E) and (b, n).
    """
    counts = (examples.labels != PADDING_LABEL).sum(dim=1).tolist()
    parts: list[list[int]] = [[]]
    for task in sorted(range(len(counts)), key=counts.__getitem__):
        content = sum(counts[other] for other in parts[-1]) + counts[task]
        if (len(parts[-1]) + 1) * counts[task] > (1 + padding) * content:
            parts.append([])
        parts[-1].append(task)
    rows = [torch.tensor(part, device=examples.labels.device) for part in parts]
    return [(each, drop_padding(Examples(*(values[each] for values in examples)))) for each in rows]


@torch.no_grad()
def one_pass_weights(
    hypernet: Any,
    tasks: Any,
    draws: int,
    *,
    max_shots: int = 12,
    seed: int = 0,
    batch_size: int = 32,
    embed: bool = False,
) -> Tensor:
    """Weights from R random support sets of each of T tasks, in one pass each.

    Args:
        hypernet: writes weights from a support set, e.g. a `SupportHNet`.
        tasks: T tasks.
        draws: R.
        max_shots: see `draw_support`.
        seed: of the draws; torch's global random state stays as it is.
        batch_size: tasks at once.
        embed: whether to return the embeddings of the support sets in place of the weights.

    Returns:
        Weights (R, T, P), or support embeddings (R, T, D).

    Raises:
        InputError: fewer than one draw, shot or task at once.
    """
    check_sizes(draws=draws, max_shots=max_shots, batch_size=batch_size)
    size = hypernet.embed_dim if embed else hypernet.space.size
    found = torch.empty(draws, len(tasks), size, device=hypernet.base.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for draw in range(draws):
            for rows in batches(tasks.sizes, batch_size):
                batch = draw_support(tasks.batch(rows), max_shots)
                weights = hypernet(batch.support, batch.context["answers"])
                found[draw, rows] = hypernet.embed(weights) if embed else weights
    return found
