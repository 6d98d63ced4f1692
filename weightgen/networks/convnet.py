"""The small CNN of few-shot image classification, alone or as B networks at once on the images of B tasks.

A layer is conv → ReLU → max pooling → batch norm, as in the HyperTransformer, on *batch* statistics: the
logits of an image depend on the other images of the batch, unless stored statistics are used.

Notation: B tasks, N examples, C classes; H × W pixels. B networks run as one, on images as (N, B·channels, H,
W).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weightgen.errors import MAX_LAYERS, InputError, check_range, check_sizes
from weightgen.storage.hub import SavedModule


class Moments(NamedTuple):
    """Mean and variance that batch norm uses.

    Attributes:
        mean: with shape (B, channels).
        var: biased variance, with shape (B, channels).
    """

    mean: Tensor
    var: Tensor


class ConvNet(nn.Module, SavedModule):
    """`depth` layers of conv → ReLU → max pooling → batch norm, then a linear layer on the flattened map.

    References:
        Zhmoginov et al., "HyperTransformer", 2022, section 5 (4 layers, 3 × 3, no convolution bias);
        `shallow` is that of its appendix F.

    Args:
        channels: output channels of every convolution.
        num_classes: C.
        image_size: H = W.
        image_channels: 1 for grey, 3 for colour.
        depth: number of convolutions.
        kernel_size: odd; the convolution is padded by half of it.
        stride: stride of the convolution.
        pool: size of the max pooling; 1 for none.
        conv_bias: whether convolutions add a bias.
        leak: negative slope of the ReLU.
        stored_statistics: whether batch norm keeps statistics and, in `eval()`, uses them.
        eps: number added to the variance in batch norm.

    Raises:
        InputError: a setting out of range, an even kernel, or an image too small for the layers.
    """

    def __init__(
        self,
        channels: int = 8,
        num_classes: int = 20,
        image_size: int = 28,
        image_channels: int = 1,
        depth: int = 4,
        kernel_size: int = 3,
        stride: int = 1,
        pool: int = 2,
        conv_bias: bool = False,
        leak: float = 0.0,
        stored_statistics: bool = False,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        check_sizes(
            1, MAX_LAYERS, depth=depth, channels=channels, kernel_size=kernel_size, image_size=image_size
        )
        check_sizes(num_classes=num_classes, image_channels=image_channels, stride=stride, pool=pool)
        check_range(leak=leak, eps=eps)
        if kernel_size % 2 == 0:
            raise InputError(f"expected an odd kernel_size, got {kernel_size}")
        self.settings: dict[str, Any] = {
            "channels": channels,
            "num_classes": num_classes,
            "image_size": image_size,
            "image_channels": image_channels,
            "depth": depth,
            "kernel_size": kernel_size,
            "stride": stride,
            "pool": pool,
            "conv_bias": conv_bias,
            "leak": leak,
            "stored_statistics": stored_statistics,
            "eps": eps,
        }
        self.channels, self.num_classes, self.image_size = channels, num_classes, image_size
        self.image_channels, self.depth, self.kernel_size = image_channels, depth, kernel_size
        self.stride, self.pool, self.leak, self.eps = stride, pool, leak, eps
        inputs = [image_channels, *[channels] * (depth - 1)]
        self.convs = nn.ModuleList(
            nn.Conv2d(n, channels, kernel_size, stride, kernel_size // 2, bias=conv_bias) for n in inputs
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(channels, eps=eps, track_running_stats=stored_statistics) for _ in inputs
        )
        self.sides = [image_size]  # H of what enters each layer, and of what leaves the last
        for i in range(depth):
            self.sides.append(-(-self.sides[-1] // stride) // pool)
            if self.sides[-1] < 1:
                raise InputError(
                    f"images of {image_size} × {image_size} shrink to nothing in layer {i + 1} of {depth}: "
                    "write a smaller depth, stride or pool"
                )
        self.flat_size = channels * self.sides[-1] ** 2
        self.head = nn.Linear(self.flat_size, num_classes)
        for conv in self.convs:
            nn.init.xavier_uniform_(conv.weight)  # type: ignore[arg-type]

    def forward(self, inputs: Tensor) -> Tensor:
        """Classify N images (N, image_channels, H, W): logits with shape (N, C).

        Raises:
            InputError: one image alone, where batch norm needs the statistics of several.
        """
        batch_statistics = self.training or not self.settings["stored_statistics"]
        if batch_statistics and inputs.shape[0] * self.sides[-1] ** 2 == 1:
            raise InputError(
                "batch norm on the statistics of one image is undefined: classify several images together, "
                "or export the network with stored_statistics=True"
            )
        x = inputs
        for conv, norm in zip(self.convs, self.norms, strict=True):
            # Pooling first gives the same as ReLU first, at a quarter of the work.
            x = norm(_relu(_pool(conv(x), self.pool), self.leak))
        return self.head(x.flatten(1))

    def layer(
        self,
        index: int,
        x: Tensor,
        params: Mapping[str, Tensor],
        present: Tensor | None = None,
        moments: Moments | None = None,
    ) -> tuple[Tensor, Moments | None]:
        """One layer of B networks.

        Args:
            index: of the layer.
            x: maps with shape (N, B·channels, H, W).
            params: parameters by name, with shape (B, *).
            present: which images count in the statistics, with shape (B, N); all by default.
            moments: statistics to use in place of those of the batch.

        Returns:
            Maps of the same layout, and the statistics of this batch (none where they were given).
        """
        weight, bias = params[f"convs.{index}.weight"], params.get(f"convs.{index}.bias")
        gamma, beta = params[f"norms.{index}.weight"], params[f"norms.{index}.bias"]
        y = F.conv2d(
            x,
            weight.flatten(0, 1),
            None if bias is None else bias.flatten(),
            stride=self.stride,
            padding=self.kernel_size // 2,
            groups=len(weight),
        )
        y = _relu(_pool(y, self.pool), self.leak)
        if moments is None and present is None:
            return F.batch_norm(
                y, None, None, gamma.flatten(), beta.flatten(), training=True, eps=self.eps
            ), None
        used = moments if moments is not None else batch_moments(y, len(weight), present)
        scale = gamma * (used.var + self.eps).rsqrt()
        y = y * scale.reshape(1, -1, 1, 1) + (beta - used.mean * scale).reshape(1, -1, 1, 1)
        return y, None if moments is not None else used

    def run_batch(
        self,
        params: Mapping[str, Tensor],
        inputs: Tensor,
        present: Tensor | None = None,
        moments: Sequence[Moments] | None = None,
    ) -> Tensor:
        """Run B networks, each on the images of its own task.

        Args:
            params: parameters by name, with shape (B, *).
            inputs: images, with shape (B, N, image_channels, H, W).
            present: which images count in the batch statistics, with shape (B, N); all by default.
            moments: statistics for each layer to use in place of those of the batch.

        Returns:
            Logits, with shape (B, N, C).
        """
        x = side_by_side(inputs)
        for i in range(self.depth):
            x, _ = self.layer(i, x, params, present, None if moments is None else moments[i])
        return self.logits(x, params)

    def logits(self, x: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """The last layer of B networks on maps (N, B·channels, H, W): logits with shape (B, N, C)."""
        weight, bias = params["head.weight"], params["head.bias"]
        flat = x.reshape(len(x), len(weight), -1).transpose(0, 1)
        return torch.baddbmm(bias.unsqueeze(1), flat, weight.transpose(1, 2))

    def statistics(self, moments: Sequence[Moments]) -> dict[str, Tensor]:
        """`moments` of one task, (1, channels), named as in the state of a network that stores them."""
        state: dict[str, Tensor] = {}
        for i, (mean, var) in enumerate(moments):
            state |= {
                f"norms.{i}.running_mean": mean.detach()[0].clone(),
                f"norms.{i}.running_var": var.detach()[0].clone(),
                f"norms.{i}.num_batches_tracked": torch.tensor(1),
            }
        return state


def shallow(
    channels: int = 16, num_classes: int = 20, image_size: int = 28, image_channels: int = 1
) -> ConvNet:
    """The two-layer network with 9 × 9 kernels and stride 4, without pooling."""
    return ConvNet(
        channels, num_classes, image_size, image_channels, depth=2, kernel_size=9, stride=4, pool=1
    )


def side_by_side(inputs: Tensor) -> Tensor:
    """Images (B, N, channels, H, W) → (N, B·channels, H, W), the layout in which B networks run as one.

    Channels lie last in memory: measured on a CPU, pooling is then three times as fast, and convolutions are
    no slower.
    """
    return inputs.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)


def batch_moments(y: Tensor, tasks: int, present: Tensor | None = None) -> Moments:
    """Statistics per task and channel of maps (N, B·channels, H, W), over images that are `present` (B, N)."""
    parts = y.reshape(len(y), tasks, -1, y.shape[-2] * y.shape[-1])
    if present is None:
        var, mean = torch.var_mean(parts, dim=(0, 3), correction=0)
        return Moments(mean, var)
    share = (present / present.sum(1, keepdim=True).clamp_min(1)).T.to(y.dtype)[:, :, None]
    mean = (parts.mean(3) * share).sum(0)
    var = ((parts - mean[:, :, None]).square().mean(3) * share).sum(0)
    return Moments(mean, var)


def _pool(x: Tensor, size: int) -> Tensor:
    return x if size == 1 else F.max_pool2d(x, size)


def _relu(x: Tensor, leak: float) -> Tensor:
    return F.leaky_relu(x, leak) if leak else F.relu(x)
