"""The MLP that hypernetworks are made of."""

from collections.abc import Sequence

from torch import nn


def kaiming_mlp(dims: Sequence[int]) -> nn.Sequential:
    """MLP with ReLU and widths `dims`; Kaiming-normal weights (gain 1 in the last layer) and zero biases."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(dims, dims[1:], strict=False)):
        last = i == len(dims) - 2
        linear = nn.Linear(fan_in, fan_out)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="linear" if last else "relu")
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.ReLU()]
    return nn.Sequential(*layers)
