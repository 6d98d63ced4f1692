"""Moving averages of what is trained. For recipes only."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from weightgen.errors import InputError
from weightgen.nn.large import LARGE
from weightgen.training.sharding import piece

ALIGNMENT = 64  # bytes, as torch aligns tensors


class Average(AveragedModel):
    """An exponential moving average: call `update_parameters(module)` after each step, then use `.module`.

    The decay starts low, as (1 + n) / (10 + n) after n updates, so that a short run does not average in its
    start. Buffers are copied. Frozen parameters are not averaged: both modules share them.

    Args:
        module: what is trained; its parameters that are frozen must remain so.
        decay: the largest decay.
        folder: where an average of more than 256 MB on the CPU lies in a file without a name. It is used once in a step, and takes no
            memory between `release` and the next use.
    """

    def __init__(self, module: nn.Module, decay: float = 0.9999, folder: Path | None = None) -> None:
        def average(kept: Any, new: Any, updates: Tensor | int) -> None:
            share = min(decay, (1 + int(updates)) / (10 + int(updates)))
            pairs = [(piece(old), piece(now)) for old, now in zip(kept, new, strict=True)]
            pairs = [(old, now) for old, now in pairs if old.data_ptr() != now.data_ptr()]
            # In one pass: what it takes is memory traffic.
            torch._foreach_lerp_([old for old, _ in pairs], [now for _, now in pairs], 1 - share)

        super().__init__(module, multi_avg_fn=average)
        self.requires_grad_(False)
        self._file: mmap.mmap | None = None
        kept, own = [*self.module.parameters()], [*module.parameters()]
        if folder is not None and own and own[0].device.type == "cpu" and sum(p.numel() for p in own) > LARGE:
            self._move_to_file(kept, folder)
        self._shared = [now for now in own if not now.requires_grad]
        for old, now in zip(kept, own, strict=True):
            if not now.requires_grad:
                now.data = old.data

    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the present state of the module."""
        if any(parameter.requires_grad for parameter in self._shared):
            raise RuntimeError("parameters that were frozen when the average was made are trained now")
        super().update_parameters(model)

    def release(self) -> None:
        """Give back the memory of an average that lies in a file, until it is used again."""
        if self._file is not None:
            self._file.madvise(mmap.MADV_DONTNEED)

    def _move_to_file(self, tensors: list[nn.Parameter], folder: Path) -> None:
        """Let tensors lie in a file, which the system removes when the process ends."""
        sizes = [-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors]
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(
                    file.fileno(), 0, sum(sizes)
                )  # a disk that is full later would kill the process
                self._file = mmap.mmap(file.fileno(), sum(sizes))
        except OSError as error:
            raise InputError(f"cannot write the average into {folder}: {error.strerror}") from error
        start = 0
        for tensor, size in zip(tensors, sizes, strict=True):
            if tensor.numel():  # each has a storage of its own, else safetensors would copy it
                there = torch.frombuffer(self._file, dtype=tensor.dtype, count=tensor.numel(), offset=start)
                tensor.data = there.view(tensor.shape).copy_(tensor.data)
            start += size
            self.release()
