"""Moving the parts of a pipeline to a device, and choosing the precision of those that generate weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from weightgen.encoders.load import check_device
from weightgen.errors import InputError
from weightgen.protocols import Encoder

GENERATING = ("prior", "hypernet", "support")
"""Parts whose precision may be chosen: the base network runs on features, in the precision of the encoder."""


def place(
    encoder: Encoder,
    parts: Mapping[str, Any],
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Move an encoder and the other parts, in place.

    Raises:
        InputError: no such device, no floating-point type, or an encoder without `to`.
    """
    if isinstance(device, torch.dtype):
        raise InputError(f"expected a device such as 'cuda', got {device}: write to(dtype={device})")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype must be a floating-point type such as torch.bfloat16, got {dtype!r}")
    if device is not None:
        check_device(device)
        if not hasattr(encoder, "to"):
            raise InputError(
                f"the encoder {encoder.name} cannot be moved: load the pipeline with device={str(device)!r}"
            )
        encoder.to(device)
    for name, part in parts.items():
        if name != "encoder":
            part.to(device=device, dtype=dtype if name in GENERATING else None)
