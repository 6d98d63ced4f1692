"""Arguments of a pipeline that are of the wrong kind, each told in one line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from weightgen.errors import InputError
from weightgen.storage.limits import check_bytes


def check_texts(texts: Sequence[str], what: str) -> None:
    """Refuse texts with halves of characters, such as those of a command line in another encoding than the terminal's.

    Raises:
        InputError: naming the text.
    """
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeError as error:
            raise InputError(f"{what} {text!a} is no valid text: expected UTF-8") from error


def check_embeds(embeds: Any, dim: int, name: str, like: Tensor) -> Tensor:
    """Embeddings (B, dim) with the type and device of `like`.

    Raises:
        InputError: another shape, or values that are not finite.
    """
    found = torch.as_tensor(embeds)
    if found.ndim != 2 or found.shape[1] != dim or found.is_complex():
        raise InputError(f"{name} must have shape (B, {dim}), got {tuple(found.shape)}")
    found = found.to(like)
    broken = (~found.isfinite()).any(dim=1).nonzero().flatten().tolist()
    if broken:
        raise InputError(f"{name} must be finite, but row {broken[0]} is not")
    return found


def check_condition(
    embeds: Tensor | None, support_embeds: Tensor | None, dims: Sequence[int], like: Tensor, scale: float
) -> tuple[Tensor | None, Tensor | None]:
    """The embeddings of prompts (B, E) and of support sets (B, D), as far as they are given, with the type and device of `like`.

    Raises:
        InputError: see `check_embeds`; or an embedding of zeros, which means "no question", where the guidance scale is not 0.
    """
    if embeds is not None:
        embeds = check_embeds(embeds, dims[0], "embeds of prompts", like)
        if scale and not embeds.any(dim=-1).all():
            raise InputError(
                "an embedding is all zeros, which means 'no question': give a question, or guidance_scale=0"
            )
    if support_embeds is not None and len(dims) > 1:
        support_embeds = check_embeds(support_embeds, dims[1], "support_embeds", like)
    return embeds, support_embeds


def check_numbers(**numbers: Any) -> None:
    """Refuse what is no number, or no whole number where its name begins with `num_`.

    Raises:
        InputError: naming the argument.
    """
    for name, value in numbers.items():
        whole = name.startswith("num_")
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            expected = "a whole number" if whole else "a finite number such as 1.5"
            raise InputError(f"{name} must be {expected}, got {value!r}")
        if name == "num_samples" and value < 1:
            raise InputError(f"num_samples must be at least 1, got {value}")


def check_room(parts: Iterable[nn.Module], samples: int, size: int) -> None:
    """Refuse more samples at once than fit into the limit of memory.

    Args:
        parts: the networks that they go through.
        samples: how many.
        size: P.

    Raises:
        InputError: with what they would take.
    """
    widest = max(value.shape[0] for part in parts for value in part.parameters() if value.ndim)
    check_bytes(
        4.0 * samples * (2 * size + 4 * widest), f"sampling {samples:,} networks of {size:,} weights at once"
    )


def check_weights(weights: Tensor) -> Tensor:
    """Return sampled weights.

    Raises:
        InputError: some are not finite.
    """
    if not weights.isfinite().all():
        raise InputError("the sampled weights are not finite: lower the guidance scale, or the temperature")
    return weights


def as_list(values: Any, what: str) -> list[Any]:
    """The values as a list.

    Raises:
        InputError: a set, whose order differs from run to run, or what is no list.
    """
    if isinstance(values, set | frozenset):
        raise InputError(
            f"{what} must be a list, because a set has no order: write {sorted(map(str, values))}"
        )
    if not isinstance(values, Iterable) or isinstance(values, bytes | Mapping | str | PathLike):
        raise InputError(f"{what} must be a list of texts, got {values!r:.80}")
    return list(values)


def split_answers(text: str) -> list[str]:
    """The answers of a line with commas between; an answer with a comma stands in double quotes.

    Raises:
        InputError: a quote that is not closed.
    """
    try:
        rows = list(csv.reader(text.splitlines(), skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise InputError(f"answers {text!r}: {error}; write '\"red, white\",green'") from error
    return [answer.strip() for row in rows for answer in row]
