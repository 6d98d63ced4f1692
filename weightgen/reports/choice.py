"""Settings that validation tasks choose: score every setting on them, then the best one on the other splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from weightgen.errors import InputError

Setting = TypeVar("Setting")


def best_setting(
    score: Callable[[Setting], float], settings: Iterable[Setting], what: str = "validation"
) -> tuple[Setting, dict[Setting, float]]:
    """Find the setting with the highest score; the first of equal ones.

    Args:
        score: setting → accuracy; raises InputError where the setting cannot be used, such as a step size that diverges.
        settings: hashable ones, such as step sizes.
        what: is scored, for the messages.

    Returns:
        The best setting, and the score of every setting that can be used.

    Raises:
        InputError: no setting can be used, or there is none.
    """
    tried: dict[Setting, float] = {}
    reasons: list[str] = []
    for setting in settings:
        try:
            tried[setting] = score(setting)
        except InputError as error:
            reasons.append(f"{setting}: {error}")
            print(f"{what}, {reasons[-1]}", flush=True)
    if not tried:
        raise InputError(f"{what}: no setting can be used; {'; '.join(reasons) or 'none was given'}")
    return max(tried, key=lambda setting: tried[setting]), tried


def score_chosen(
    score: Callable[[str, Setting], float],
    splits: Iterable[str],
    settings: Iterable[Setting],
    validation: str = "validation",
    what: str = "",
) -> dict[str, Any]:
    """Score a method on several splits with the setting that validation tasks chose.

    Args:
        score: (split, setting) → accuracy.
        splits: the splits to score, apart from the validation split.
        settings: what to choose from.
        validation: the split that chooses.
        what: is scored, for the messages.

    Returns:
        split → accuracy, with "validation", "chosen" (the setting) and "tried" (setting → accuracy on validation tasks).

    Raises:
        InputError: no setting can be used, or the chosen one cannot be used on another split.
    """
    best, tried = best_setting(lambda setting: score(validation, setting), settings, what or validation)
    row = {split: score(split, best) for split in splits if split != validation}
    return {**row, "validation": tried[best], "chosen": best, "tried": tried}
