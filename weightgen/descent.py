"""Gradient descent on a point per task: MAML's inner loop, latent adaptation, and guidance are all this.

Letters: B tasks, D the dimension of what is adapted (P weights or Z latent).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils.checkpoint import checkpoint


def descend(
    loss: Callable[..., Tensor],
    start: Tensor,
    *data: Any,
    steps: int | Tensor,
    lr: float | Tensor,
    first_order: bool = False,
    chunk_size: int | None = None,
    checkpoint_steps: bool = False,
) -> Tensor:
    """Take gradient steps on every task's own loss; the result is differentiable.

    x ← x − lr ∇ₓ loss(x, data), `steps` times. `loss` is written for one task and batched with `vmap`.

    Args:
        loss: (point of shape (D,), one task's data) → scalar. What it closes over is shared by all tasks.
        start: where to start, with shape (B, D).
        *data: tensors, or tuples and dictionaries of tensors, each with a leading dimension B.
        steps: number of steps, one for all or an integer tensor with shape (B,).
        lr: step size, a number or a tensor that broadcasts against (B, D).
        first_order: whether slopes count as constants when the result is differentiated (first-order MAML,
            Finn et al. 2017, section 5.2), which needs less time and memory.
        chunk_size: tasks differentiated at once; fewer need less memory.
        checkpoint_steps: whether a step's activations are dropped and computed again when the result is differentiated. A step then
            keeps its starting point only, B · D numbers, for about twice the time. Without effect in first order, which keeps no
            activations. Not for use inside `torch.func` transforms.

    Returns:
        The adapted points, with shape (B, D).
    """
    checkpointed = checkpoint_steps and torch.is_grad_enabled() and not first_order
    if checkpointed:
        slope = _slope_through_autograd(loss, chunk_size)
    else:
        slope = vmap(grad(loss), randomness="different", chunk_size=chunk_size)

    def moved(point: Tensor, step: int) -> Tensor:
        # `grad` ignores an outer no_grad for its own derivative, but no graph is kept for the next order.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not first_order):
            direction = slope(point, *data)
        after = point - lr * direction
        if isinstance(steps, Tensor):  # a task that has had its steps stays where it is
            after = torch.where((steps > step).unsqueeze(-1), after, point)
        return after

    point = start
    for step in range(int(steps.max()) if isinstance(steps, Tensor) else steps):
        point = checkpoint(moved, point, step, use_reentrant=False) if checkpointed else moved(point, step)
    return point


def _slope_through_autograd(loss: Callable[..., Tensor], chunk_size: int | None) -> Callable[..., Tensor]:
    """What `vmap(grad(loss))` computes, by a sum over the tasks: `torch.func.grad` does not run inside a checkpoint."""
    losses = vmap(loss, randomness="different", chunk_size=chunk_size)

    def slope(point: Tensor, *data: Any) -> Tensor:
        at = point if point.requires_grad else point.detach().requires_grad_()
        return torch.autograd.grad(losses(at, *data).sum(), at, create_graph=True)[0]

    return slope
