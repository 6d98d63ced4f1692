"""Adaptation of one task at a time, many at once: gradient descent on weights or latents, or one pass over a support set.

Notation: B tasks of T, R draws, D the dimension of what is adapted (P weights or Z latent).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.utils.checkpoint import checkpoint

from weightgen.errors import InputError
from weightgen.metrics import task_loss
from weightgen.protocols import Hypernetwork
from weightgen.shots import draw_support
from weightgen.tasks import Examples, batches
from weightgen.weights import WeightSpace


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


def adapt(
    space: WeightSpace,
    network: nn.Module,
    start: Tensor,
    support: Examples,
    context: dict[str, Tensor],
    *,
    steps: int | Tensor,
    lr: float,
    first_order: bool = True,
    decode: Callable[[Tensor], Tensor] | None = None,
    checkpoint_steps: bool = False,
) -> Tensor:
    """Fine-tune one point per task, weights or a latent, by full-batch gradient descent on its support set.

    Args:
        space: the weight space of `network`.
        network: the base network.
        start: weights (B, P), or latents (B, Z) if there is `decode`.
        support: examples of B tasks.
        context: further inputs of the network, with shape (B, ...).
        steps: gradient steps, one number or one per task (B,).
        lr: step size.
        first_order: whether the result counts its own slopes as constants when it is differentiated.
        decode: a hypernetwork, latent (Z,) → weights (P,).
        checkpoint_steps: whether the second order keeps a step's starting point only and computes the rest again; see `descend`.

    Returns:
        Adapted points, with the shape of `start`.
    """

    def loss(point: Tensor, examples: Examples, extra: dict[str, Tensor]) -> Tensor:
        weights = point if decode is None else decode(point)
        return task_loss(space.call(network, weights, examples.inputs, **extra), examples.labels)

    return descend(
        loss, start, support, context,
        steps=steps, lr=lr, first_order=first_order, checkpoint_steps=checkpoint_steps,
    )  # fmt: skip


def check_point(hypernet: Hypernetwork, point: str) -> None:
    """Refuse to adapt what is not there.

    Raises:
        InputError: `point` is neither "weights" nor "latents", or the hypernetwork has no latents to start at.
    """
    if point not in ("weights", "latents"):
        raise InputError(f"point must be 'weights' or 'latents', got {point!r}")
    if point == "latents" and not hasattr(hypernet, "starts"):
        raise InputError(
            f"{type(hypernet).__name__} has no latents to adapt: write point=weights, or use an HNet"
        )


def initial_points(
    hypernet: Any, embeds: Tensor, point: str
) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
    """Where adaptation of `point` starts for descriptions (B, E), and what turns the result into weights: `adapt`'s `decode`.

    Returns:
        Weights (B, P) and None, or latents (B, Z) and the hypernetwork.
    """
    return (hypernet(embeds), None) if point == "weights" else (hypernet.starts(embeds), hypernet)


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
    """What R random support sets of each of T tasks give: weights (R, T, P), or support embeddings (R, T, D).

    Args:
        hypernet: what writes them.
        tasks: T tasks.
        draws: R.
        max_shots: see `draw_support`.
        seed: of the draws.
        batch_size: tasks at once.
        embed: whether embeddings are wanted.
    """
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
