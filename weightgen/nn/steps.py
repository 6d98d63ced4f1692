"""Several steps in a row, whose activations may be computed again when the result is differentiated."""

import math
from collections.abc import Callable

from torch import Tensor
from torch.utils.checkpoint import checkpoint

State = tuple[Tensor, ...]


def take_steps(step: Callable[..., State], state: State, count: int, checkpointed: bool = False) -> State:
    """Repeat state ← step(number, *state), with the numbers from 0 to T − 1.

    Checkpointed, T steps are √T parts of √T steps. Only the state before each part is kept, then that before each step of the part that is
    differentiated, and the activations of one step: 2 √T states in place of T. All steps are taken three times.

    References:
        Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, section 4.

    Args:
        step: (number, *state) → the next state.
        state: tensors.
        count: T.
        checkpointed: whether activations are dropped, and computed again when they are needed.

    Returns:
        The state after the last step.
    """

    def part(first: int, last: int, *state: Tensor) -> State:
        for number in range(first, last):
            if checkpointed:
                state = checkpoint(step, number, *state, use_reentrant=False)
            else:
                state = step(number, *state)
        return state

    if not checkpointed:
        return part(0, count, *state)
    together = math.isqrt(max(count - 1, 0)) + 1  # √T, rounded up
    for first in range(0, count, together):
        state = checkpoint(part, first, min(first + together, count), *state, use_reentrant=False)
    return state
