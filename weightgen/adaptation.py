"""Adaptation of many tasks at once: gradient descent on weights or latents, or weights from a support set in one pass.

Notation: B tasks of T, R draws, D the dimension of what is adapted (P weights or Z latent).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils.checkpoint import checkpoint

from weightgen.errors import InputError, check_range, check_sizes
from weightgen.metrics import task_loss
from weightgen.protocols import Hypernetwork
from weightgen.shots import draw_support
from weightgen.tasks import Examples, TaskBatch, batches
from weightgen.weights import FunctionalNetwork


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
            differentiated. A step then keeps B · D numbers, and the whole takes about twice the time. No
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

    point = start
    if rounds is None:
        rounds = int(steps.max()) if isinstance(steps, Tensor) else steps
    for step in range(rounds):
        point = checkpoint(moved, point, step, use_reentrant=False) if checkpointed else moved(point, step)
    return point


def _gradient_through_autograd(loss: Callable[..., Tensor], chunk_size: int | None) -> Callable[..., Tensor]:
    """The gradients of `vmap(grad(loss))`; unlike `torch.func.grad`, they work inside a checkpoint."""
    losses = vmap(loss, randomness="different", chunk_size=chunk_size)

    def gradient(point: Tensor, *data: Any) -> Tensor:
        at = point if point.requires_grad else point.detach().requires_grad_()
        return torch.autograd.grad(losses(at, *data).sum(), at, create_graph=True)[0]

    return gradient


def adapt(
    network: FunctionalNetwork,
    start: Tensor,
    support: Examples,
    context: dict[str, Tensor],
    *,
    steps: int | Tensor,
    lr: float,
    first_order: bool = True,
    decode: Callable[[Tensor], Tensor] | None = None,
    checkpoint_steps: bool = False,
    rounds: int | None = None,
) -> Tensor:
    """Full-batch gradient descent on the loss of each task's support set, from given weights or latents.

    `fine_tune` is the same from a hypernetwork's own start, with weights as its result.

    Args:
        network: the base network.
        start: weights (B, P), or latents (B, Z) if there is `decode`.
        support: examples of B tasks.
        context: further inputs of the network, with shape (B, ...).
        steps: gradient steps, one number or one per task (B,).
        lr: step size.
        first_order: whether gradients count as constants when the result is differentiated.
        decode: a hypernetwork, latent (Z,) → weights (P,).
        checkpoint_steps: see `gradient_descent`.
        rounds: see `gradient_descent`.

    Returns:
        Adapted weights or latents, with the shape of `start`.

    Raises:
        InputError: there are several starting points per task, or a negative number of steps or step size.
    """
    check_range(steps=int(steps.min()) if isinstance(steps, Tensor) else steps, lr=lr)
    if start.ndim != 2:
        raise InputError(
            f"adaptation starts at one point per task, (B, P) or (B, Z), got {tuple(start.shape)}"
        )

    if first_order and decode is None and _can_descend(network, context):
        counts = torch.as_tensor(steps, device=start.device).expand(len(start))
        if not int(counts.max()):
            return start
        parts = network.space.unflatten(start.detach())
        change = network.module.descend(parts, task_loss, *support, counts, lr, **context)  # type: ignore[operator]
        return start + network.space.flatten(change)

    def loss(point: Tensor, examples: Examples, extra: dict[str, Tensor]) -> Tensor:
        weights = point if decode is None else decode(point)
        return task_loss(network.single(weights, examples.inputs, **extra), examples.labels)

    options: dict[str, Any] = {"steps": steps, "lr": lr, "first_order": first_order}
    options |= {"checkpoint_steps": checkpoint_steps, "rounds": rounds}
    return gradient_descent(loss, start, support, context, **options)


def _can_descend(network: FunctionalNetwork, context: dict[str, Tensor]) -> bool:
    """Whether the class of the network itself, no class that it inherits from, has a `descend`, and all parameters are generated."""
    known = "descend" in vars(type(network.module)) and context.keys() <= {"answers", "answer_mask"}
    names = {name for name, _ in network.module.named_parameters()}
    return (
        known and names == {name for name, _ in network.space.shapes} and not torch.is_autocast_enabled("cpu")
    )


def check_inner_variable(hypernet: Hypernetwork, inner_variable: str) -> None:
    """Refuse an inner variable that the hypernetwork does not have.

    Raises:
        InputError: `inner_variable` is neither "weights" nor "latents", or the hypernetwork has no latents to
            start at.
    """
    if inner_variable not in ("weights", "latents"):
        raise InputError(f"inner_variable must be 'weights' or 'latents', got {inner_variable!r}")
    if inner_variable == "latents" and not hasattr(hypernet, "initial_latents"):
        raise InputError(
            f"{type(hypernet).__name__} has no latents to adapt: write inner_variable=weights, or use an HNet"
        )


def initial_points(
    hypernet: Any, embeds: Tensor, inner_variable: str
) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
    """The start of the adaptation of B tasks, and the `decode` of `adapt`.

    Returns:
        Weights (B, P) and None, or latents (B, Z) and the hypernetwork.
    """
    if inner_variable == "weights":
        return hypernet(embeds), None
    return hypernet.initial_latents(embeds), hypernet


def fine_tune(
    network: FunctionalNetwork,
    hypernet: Hypernetwork | None,
    batch: TaskBatch,
    *,
    steps: int | Tensor,
    lr: float,
    inner_variable: str = "weights",
    start: Tensor | None = None,
    first_order: bool = True,
    checkpoint_steps: bool = False,
) -> Tensor:
    """Fine-tune the weights of each task on its support set.

    Args:
        network: the base network.
        hypernet: gives the start from the embeddings of the tasks; may be None where `start` is weights.
        batch: B tasks.
        steps: gradient steps, one number or one per task (B,).
        lr: step size.
        inner_variable: what the steps change, "weights" or "latents".
        start: weights (B, P) or latents (B, Z) to start at, in place of the hypernetwork's own.
        first_order: whether gradients count as constants when the result is differentiated.
        checkpoint_steps: see `gradient_descent`.

    Returns:
        Weights, with shape (B, P).

    Raises:
        InputError: the result is not finite, `hypernet` has no latents, or there is nothing to start at.
    """
    if hypernet is None:
        if start is None or inner_variable != "weights":
            raise InputError("fine_tune without a hypernetwork needs start=, weights with shape (B, P)")
    else:
        check_inner_variable(hypernet, inner_variable)
        start = initial_points(hypernet, batch.embeds, inner_variable)[0] if start is None else start
    decode = hypernet if inner_variable == "latents" else None
    options = {"steps": steps, "lr": lr, "first_order": first_order, "checkpoint_steps": checkpoint_steps}
    found = adapt(network, start, batch.support, batch.context, decode=decode, **options)  # type: ignore[arg-type]
    check_adapted(found, steps, lr)
    return found if decode is None else decode(found)


def check_adapted(points: Tensor, steps: int | Tensor, lr: float) -> None:
    """Refuse adapted weights or latents that are not finite.

    Raises:
        InputError: with the advice of a smaller step size.
    """
    if not points.isfinite().all():
        count = int(steps.max()) if isinstance(steps, Tensor) else steps
        raise InputError(
            f"adaptation with {count} steps of {lr} diverged: give a smaller step size, {lr / 3:.2g}"
        )


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
