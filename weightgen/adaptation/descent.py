"""Gradient descent on many tasks at once, each with a loss of its own.

Notation: B tasks, D the dimension of what is adapted (P weights or Z latent).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

from weightgen.nn.steps import take_steps


def gradient_descent(
    loss: Callable[..., Tensor],
    start: Tensor,
    *data: Any,
    steps: int | Tensor,
    lr: float | Tensor,
    first_order: bool = False,
    chunk_size: int | None = None,
    checkpoint_steps: bool = False,
    rounds: int | None = None,
) -> Tensor:
    """Take gradient steps on every task's own loss; the result is differentiable.

    x ← x − lr ∇ₓ loss(x, data), `steps` times. `loss` is written for one task and batched with `vmap`.

    Args:
        loss: (point of shape (D,), one task's data) → scalar. Tensors that it closes over are shared by all
            tasks.
        start: where to start, with shape (B, D).
        *data: tensors, or tuples and dictionaries of tensors, each with a leading dimension B.
        steps: number of steps, one for all or an integer tensor with shape (B,).
        lr: step size, a number or a tensor that broadcasts against (B, D).
        first_order: whether gradients count as constants when the result is differentiated (first-order MAML,
            Finn et al. 2017, section 5.2), which needs less time and memory.
        chunk_size: tasks differentiated at once; fewer need less memory.
        checkpoint_steps: whether the activations of a step are dropped, and computed again when the result is
            differentiated. T steps then keep B · D · 2 √T numbers, and the whole takes about twice the time. No
            effect in first order, which keeps no activations. Does not work inside `torch.func` transforms.
        rounds: how often gradients are computed; by default as often as the task with most steps needs. More
            change no point, only the state of torch's randomness where the loss draws from it.

    Returns:
        The adapted points, with shape (B, D).
    """
    checkpointed = checkpoint_steps and torch.is_grad_enabled() and not first_order
    if checkpointed:
        gradient = _gradient_through_autograd(loss, chunk_size)
    else:
        gradient = vmap(grad(loss), randomness="different", chunk_size=chunk_size)

    def moved(point: Tensor, step: int) -> Tensor:
        # `grad` ignores an outer no_grad for its own derivative, but no graph is kept for the next order.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not first_order):
            direction = gradient(point, *data)
        after = point - lr * direction
        if isinstance(steps, Tensor):  # a task that has had its steps stays where it is
            after = torch.where((steps > step).unsqueeze(-1), after, point)
        return after

    if rounds is None:
        rounds = int(steps.max()) if isinstance(steps, Tensor) else steps
    return take_steps(lambda step, point: (moved(point, step),), (start,), rounds, checkpointed)[0]


def _gradient_through_autograd(loss: Callable[..., Tensor], chunk_size: int | None) -> Callable[..., Tensor]:
    """The gradients of `vmap(grad(loss))`; unlike `torch.func.grad`, they work inside a checkpoint."""
    losses = vmap(loss, randomness="different", chunk_size=chunk_size)

    def gradient(point: Tensor, *data: Any) -> Tensor:
        at = point if point.requires_grad else point.detach().requires_grad_()
        return torch.autograd.grad(losses(at, *data).sum(), at, create_graph=True)[0]

    return gradient
