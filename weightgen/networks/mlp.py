"""A plain multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from weightgen.errors import InputError, check_sizes
from weightgen.storage.hub import SavedModule

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class MLP(nn.Module, SavedModule):
    """Linear layers with an activation between them, and none after the last.

    Args:
        in_dim: length of an input.
        hidden_dims: widths of the hidden layers; none make a linear map.
        out_dim: length of an output, such as the number of classes C.
        activation: gelu, relu, silu, softplus or tanh.
        bias: whether the layers have biases.

    Raises:
        InputError: another activation.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dims: Sequence[int],
        out_dim: int,
        activation: str = "relu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(in_dim=in_dim, hidden_dims=hidden_dims, out_dim=out_dim)
        if activation not in _ACTIVATIONS:
            raise InputError(f"expected an activation of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        layers: list[nn.Module] = []
        for width, next_width in pairwise([in_dim, *hidden_dims, out_dim]):
            layers += [nn.Linear(width, next_width, bias), _ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs of shape (*, in_dim) to outputs of shape (*, out_dim)."""
        return self.layers(inputs)
