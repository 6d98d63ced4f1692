"""Gradient descent on the losses of many CLIP-Adapters at once, which does not touch their first layers until the end.

The inputs x of the first layer stay the same, so W = W⁰ − α Σ δᵀ x and x Wᵀ = x W⁰ᵀ − α (x xᵀ) Σ δ, where δ (N, H) are the slopes of the
layer's outputs: a product with N × N numbers in place of H × E. With the adapter of Nava, Kobayashi et al. (E = 768, H = 256) and N = 29,
this halves the time of a step. The slopes are written out, so that a step of second order differentiates them once, and not twice.

Notation: B tasks in groups of b, N examples, C classes, P weights, E and H the widths of the adapter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from weightgen.networks.clip_adapter import CLIPAdapter, check_lengths, inverse_length, masked, unit
from weightgen.nn.steps import take_steps
from weightgen.shots import like_sized
from weightgen.tasks import PADDING_LABEL, Examples
from weightgen.weights import FunctionalNetwork


class Group(NamedTuple):
    """Neighbouring tasks of like size: which of all tasks, their examples, and the answers of each."""

    rows: slice
    examples: Examples
    context: dict[str, Tensor]


def groups(support: Examples, context: dict[str, Tensor]) -> tuple[Tensor, list[Group]]:
    """Bring B tasks into groups of like size; on a GPU, where many small operations take longer than padding, they stay one group.

    Returns:
        The numbers of the tasks in their new order, with shape (B,), and the groups in this order.
    """
    parts = like_sized(support, 0.25 if support.labels.device.type == "cpu" else math.inf)
    found, end = [], 0
    for rows, examples in parts:
        own = {name: value[rows] for name, value in context.items()}
        found.append(Group(slice(end, end + len(rows)), examples, own))
        end += len(rows)
    return torch.cat([rows for rows, _ in parts]), found


def changes(
    network: FunctionalNetwork, start: Tensor, groups: Sequence[Group], steps: Tensor, lr: float, **how: bool
) -> Tensor:
    """How the weights of B adapters change by gradient descent on the losses of their support sets, `weightgen.metrics.task_loss`.

    Args:
        network: a `CLIPAdapter` with all its parameters.
        start: weights in the order of the groups, with shape (B, P).
        groups: of the support sets.
        steps: of each task, in the order of the groups, with shape (B,).
        lr: α.
        **how: `second_order` and `checkpoint_steps` of `AdapterDescent`.

    Returns:
        The changes in the order of the groups, with shape (B, P).

    Raises:
        InputError: images and answers of different lengths.
    """
    found = []
    for rows, examples, context in groups:
        check_lengths(examples.inputs, context["answers"])
        descent = AdapterDescent(network.module, examples, context, steps[rows], lr, **how)  # type: ignore[arg-type]
        found.append(network.space.flatten(descent.change(network.space.unflatten(start[rows]))))
    return torch.cat(found)


@dataclass
class AdapterDescent:
    """Gradient steps on b adapters.

    Attributes:
        adapter: its settings count; its own parameters do not.
        examples: inputs (b, N, E) and labels (b, N).
        context: `answers` (b, C, E) and `answer_mask` (b, C) of `CLIPAdapter.forward`.
        steps: of each task, with shape (b,).
        lr: α.
        second_order: whether the result can be differentiated through the gradients.
        checkpoint_steps: see `weightgen.adaptation.gradient_descent`; no effect in first order.
    """

    adapter: CLIPAdapter
    examples: Examples
    context: dict[str, Tensor]
    steps: Tensor
    lr: float
    second_order: bool = False
    checkpoint_steps: bool = False

    def __post_init__(self) -> None:
        inputs, labels = self.examples
        self.x = unit(inputs) * math.sqrt(inputs.shape[-1]) if self.adapter.normalize_inputs else inputs
        self.answers = self.adapter.logit_scale * unit(self.context["answers"])
        valid = (labels != PADDING_LABEL).unsqueeze(-1).to(inputs.dtype)
        self.shares = valid / valid.sum(dim=1, keepdim=True).clamp_min(1)  # of each example in the mean
        chosen = functional.one_hot(labels.clamp_min(0), self.answers.shape[1])
        self.targets = self.shares * chosen

    def change(self, start: dict[str, Tensor]) -> dict[str, Tensor]:
        """How the parameters `start` change, each with shape (b, ...)."""
        layers = self.adapter.hidden, self.adapter.out
        first, second = (layer.in_features**-0.5 if self.adapter.ntk else 1.0 for layer in layers)
        scaled, biases = self.x * first, ["out.bias"] if "out.bias" in start else []
        gram = scaled @ scaled.mT + len(biases)  # a bias is the weight of an input that is 1
        before = _affine(scaled, start["hidden.weight"], start.get("hidden.bias"))

        def step(number: int, slopes: Tensor, weight: Tensor, *bias: Tensor) -> tuple[Tensor, ...]:
            middle = torch.baddbmm(before, gram, slopes, alpha=-self.lr)
            active = functional.relu(middle) * second
            slope = self._slope(self.x + _affine(active, weight, *bias))
            slope = slope * (self.steps > number)[:, None, None]  # 0 for a task that has had its steps
            slopes = slopes + second * (slope @ weight) * (middle > 0)
            place = None if self.second_order else weight
            weight = torch.baddbmm(weight, slope.mT, active, alpha=-self.lr, out=place)
            return slopes, weight, *(each - self.lr * slope.sum(dim=1) for each in bias)

        names, again = ["out.weight", *biases], self.checkpoint_steps and self.second_order
        state = torch.zeros_like(before), *(start[name].clone() for name in names)
        slopes, *moved = take_steps(step, state, int(self.steps.max()), again)
        change = {name: after - start[name] for name, after in zip(names, moved, strict=True)}
        change["hidden.weight"] = -self.lr * (slopes.mT @ scaled)
        if biases:
            change["hidden.bias"] = -self.lr * slopes.sum(dim=1)
        return change

    def _slope(self, adapted: Tensor) -> Tensor:
        """The gradient (b, N, E) of the loss by the adapted embeddings: Σ (p − y) · answer, across the embedding, over its length."""
        scale = inverse_length(adapted)
        direction = adapted * scale
        logits = masked(direction @ self.answers.mT, self.context.get("answer_mask"))
        pull = (self.shares * logits.softmax(dim=-1) - self.targets) @ self.answers
        return scale * (pull - direction * (direction * pull).sum(dim=-1, keepdim=True))


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The affine map x Wᵀ + b of each task."""
    return x @ weight.mT if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)
