"""Features of support images for a HyperTransformer: of the images, and of their activations in the CNN.

Notation: N images, F features.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def glorot_conv(inputs: int, outputs: int, kernel_size: int, stride: int, padding: int) -> nn.Conv2d:
    """A convolution with uniform Glorot weights and a zero bias."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, padding)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class ImageFeatures(nn.Module):
    """Features of the images, shared by all layers: four 3 × 3 convolutions, then the mean over positions.

    Args:
        image_channels: channels of the images.
        dim: F.
    """

    def __init__(self, image_channels: int, dim: int = 32) -> None:
        super().__init__()
        inputs = [image_channels, dim, dim, dim]
        self.convs = nn.ModuleList(
            glorot_conv(n, dim, 3, stride, 1) for n, stride in zip(inputs, (2, 2, 2, 1), strict=True)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, channels, H, W) → features (N, F)."""
        x = images.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            x = F.relu(conv(x))
        return x.mean(dim=(2, 3))


class ActivationFeatures(nn.Module):
    """Features of the activations that enter one layer, by unpadded convolutions with strides 2 and 1.

    The features are the means over positions of each convolution's output, before its ReLU. The chain ends
    where a map is smaller than the kernel; if this is the input itself, the kernel shrinks to its size. Of the
    last convolution nothing but this mean is needed, so it is taken before the convolution (`mean_of_conv`).

    Args:
        channels: channels of the activations.
        side: height and width of the activations.
        dim: number of features of each convolution.
        depth: largest number of convolutions.
        kernel_size: kernel size of the convolutions.
    """

    def __init__(self, channels: int, side: int, dim: int, depth: int = 2, kernel_size: int = 3) -> None:
        super().__init__()
        convs: list[nn.Conv2d] = []
        for i in range(depth):
            small = side < kernel_size
            if small and convs:
                break
            stride = 2 if i == 0 and not small else 1
            kernel = side if small else kernel_size
            convs.append(glorot_conv(dim if convs else channels, dim, kernel, stride, 0))
            side = (side - kernel) // stride + 1
        self.convs = nn.ModuleList(convs)
        self.size = dim * len(convs)

    def forward(self, x: Tensor) -> Tensor:
        """Activations (N, channels, H, W) → features (N, size)."""
        found = []
        for conv in self.convs[:-1]:
            x = conv(x)
            found.append(x.mean(dim=(2, 3)))
            x = F.relu(x)
        found.append(mean_of_conv(x, cast(nn.Conv2d, self.convs[-1])))
        return torch.cat(found, dim=1)


def mean_of_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The mean over positions of an unpadded convolution's output, without the output.

    As a convolution is linear, mean_p Σ_k W_k x_{p+k} = Σ_k W_k (mean_p x_{p+k}): one product of the means of x
    over the positions that each element of the kernel sees. On a CPU a sixth of the time.

    Args:
        x: maps with shape (N, channels, H, H).
        conv: a convolution with a square kernel and a bias.

    Returns:
        Means, with shape (N, outputs).
    """
    size, stride = conv.kernel_size[0], conv.stride[0]
    count = (x.shape[-1] - size) // stride + 1
    place = torch.arange(x.shape[-1], device=x.device) - torch.arange(size, device=x.device)[:, None]
    seen = (place >= 0) & (place % stride == 0) & (place < count * stride)
    rows = seen.to(x.dtype) / count  # (size, H)
    means = torch.kron(rows, rows) @ x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, size², channels)
    return F.linear(means.flatten(1), conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)
