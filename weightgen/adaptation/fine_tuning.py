"""Fine-tuning of networks on the support sets of many tasks at once, by their weights or by latents.

Notation: B tasks, P weights, Z latent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from weightgen.adaptation import adapter_descent
from weightgen.adaptation.descent import gradient_descent
from weightgen.errors import InputError, check_range
from weightgen.metrics import task_loss
from weightgen.networks import CLIPAdapter
from weightgen.protocols import Hypernetwork
from weightgen.tasks import Examples, TaskBatch
from weightgen.weights import FunctionalNetwork


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
        decode: a hypernetwork, latents (*, Z) → weights (*, P).
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

    if _is_adapter(network, context) and (first_order or decode is None):
        counts = torch.as_tensor(steps, device=start.device).expand(len(start))
        order, groups = adapter_descent.groups(support, context)
        arguments = network, start[order], groups, counts[order], lr
        if decode is not None:
            moved = _descend_latents(decode, *arguments)
        else:
            second = not first_order and torch.is_grad_enabled()
            with torch.set_grad_enabled(second):
                moved = adapter_descent.changes(
                    *arguments, second_order=second, checkpoint_steps=checkpoint_steps
                )
        return start + moved[order.argsort()]

    def loss(point: Tensor, examples: Examples, extra: dict[str, Tensor]) -> Tensor:
        weights = point if decode is None else decode(point)
        return task_loss(network.single(weights, examples.inputs, **extra), examples.labels)

    options: dict[str, Any] = {"steps": steps, "lr": lr, "first_order": first_order}
    options |= {"checkpoint_steps": checkpoint_steps, "rounds": rounds}
    return gradient_descent(loss, start, support, context, **options)


def _is_adapter(network: FunctionalNetwork, context: dict[str, Tensor]) -> bool:
    """Whether the network is a `CLIPAdapter` itself, of no class that inherits from it, all of whose parameters are generated."""
    known = type(network.module) is CLIPAdapter and context.keys() <= {"answers", "answer_mask"}
    names = {name for name, _ in network.module.named_parameters()}
    whole = names == {name for name, _ in network.space.shapes}
    return known and whole and not torch.is_autocast_enabled(network.initial_weights.device.type)


def _descend_latents(
    decode: Callable[[Tensor], Tensor],
    network: FunctionalNetwork,
    start: Tensor,
    groups: Sequence[adapter_descent.Group],
    steps: Tensor,
    lr: float,
) -> Tensor:
    """The change of latents by first-order descent; all tasks pass the hypernetwork, most of the work, together."""
    point, one = start.detach(), torch.ones_like(steps)
    for step in range(int(steps.max())):
        with torch.enable_grad():
            weights = decode(point.requires_grad_())
        with torch.no_grad():  # the change by one step of size 1 is the negative gradient
            change = adapter_descent.changes(network, weights.detach(), groups, one, 1.0)
            (direction,) = torch.autograd.grad(weights, point, change)
            point = torch.where((steps > step).unsqueeze(-1), point + lr * direction, point).detach()
    return point - start.detach()


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
