"""What happens after each denoising step: a callback as in diffusers, and a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from weightgen.errors import InputError

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], Mapping[str, Any] | None]
"""(pipe, step, timestep, {"latents": (B·K, Z)}) → the same with other latents, or None."""

OnStep = Callable[[int, Tensor, Tensor], Tensor]
"""(step, timestep, z_t) → z_t, as `DiffusionPrior.sample` calls it."""


@contextmanager
def after_steps(
    pipe: Any, callback: StepCallback | None, total: int, bar: Mapping[str, Any]
) -> Iterator[OnStep]:
    """What the prior calls after each step; a progress bar lives as long as the context.

    Args:
        pipe: the pipeline, which the callback is given.
        callback: the user's.
        total: number of steps.
        bar: arguments of tqdm.

    Yields:
        The function to call. It raises an `InputError` where the callback returns something else than it should.
    """
    from tqdm.auto import tqdm

    with tqdm(total=total, **bar) as progress:

        def on_step(step: int, time: Tensor, latents: Tensor) -> Tensor:
            progress.update()
            if callback is None:
                return latents
            returned = callback(pipe, step, time, {"latents": latents})
            return latents if returned is None else _checked(returned, latents)

        yield on_step


def _checked(returned: Any, latents: Tensor) -> Tensor:
    """The latents that a callback returned.

    Raises:
        InputError: it returned no dictionary, or latents of another shape.
    """
    if not isinstance(returned, Mapping):
        raise InputError(f"callback_on_step_end must return a dictionary or None, got {returned!r:.60}")
    found = returned.get("latents", latents)
    if not isinstance(found, Tensor) or found.shape != latents.shape:
        shape = tuple(found.shape) if isinstance(found, Tensor) else repr(found)[:60]
        raise InputError(
            f"callback_on_step_end must keep latents of shape {tuple(latents.shape)}, got {shape}"
        )
    return found.to(latents)
