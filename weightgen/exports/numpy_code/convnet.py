"""ConvNet in NumPy: layers of conv → ReLU → max pooling → batch norm, then a linear layer on the flattened map."""

from typing import Any

import numpy as np


def logits(inputs: Any, w: dict[str, Any]) -> Any:
    """Scores (N, C) for images (N, channels, H, W); without stored statistics they depend on the images of the batch."""
    x, pad, stride = inputs, int(w["kernel_size"]) // 2, int(w["stride"])
    for i in range(int(w["depth"])):
        kernel = w[f"convs.{i}.weight"]
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        patches = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], (2, 3))
        x = np.einsum("nchwij,ocij->nohw", patches[:, :, ::stride, ::stride], kernel, optimize=True)
        x = pooled(x + column(w.get(f"convs.{i}.bias", np.zeros(len(kernel)))), int(w["pool"]))
        x = np.where(x > 0, x, w["leak"] * x)
        mean = w.get(f"norms.{i}.running_mean", x.mean(axis=(0, 2, 3)))
        var = w.get(f"norms.{i}.running_var", x.var(axis=(0, 2, 3)))
        scale = w[f"norms.{i}.weight"] / np.sqrt(var + w["eps"])
        x = (x - column(mean)) * column(scale) + column(w[f"norms.{i}.bias"])
    return x.reshape(len(x), -1) @ w["head.weight"].T + w["head.bias"]


def pooled(x: Any, size: int) -> Any:
    """Max pooling; a rest at the border is left out."""
    n, c, height, width = x.shape
    cut = x[:, :, : height // size * size, : width // size * size]
    return cut.reshape(n, c, height // size, size, width // size, size).max(axis=(3, 5))


def column(v: Any) -> Any:
    """A number for each channel, to combine with maps (N, channels, H, W)."""
    return np.reshape(v, (1, -1, 1, 1))
