"""Ctrl-C and SIGTERM: a run ends its step and writes a checkpoint; the second time it leaves at once. For recipes only."""

import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn, Self

import torch

from weightgen.errors import needs

with needs("train"):
    from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The run was asked to stop by a signal.

    Args:
        number: of the signal.
        message: what to say; nothing has been said yet.
    """

    def __init__(self, number: int, message: str = "stopped") -> None:
        super().__init__(message)
        self.number = number


def raise_stopped(number: int, frame: FrameType | None = None) -> NoReturn:
    """A signal handler that stops at once."""
    raise Stopped(number)


class Interrupts:
    """A context in which the first signal is only noted, and the second stops at once.

    Signals reach the main thread only; in any other thread this context changes nothing.
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted is not None:
            raise_stopped(number)
        self._noted = number
        print("\nstopping after this step; once more to leave at once", file=sys.stderr)

    def any(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to stop; all processes get the same answer, so that none waits for another forever."""
        if accelerator.num_processes == 1:
            return self._noted is not None
        asked = torch.tensor([float(self._noted or 0)], device=accelerator.device)
        found = int(accelerator.gather(asked).max().item())
        self._noted = self._noted or found or None
        return bool(found)

    def stop(self, message: str) -> NoReturn:
        """Stop, with what to say.

        Raises:
            Stopped: always.
        """
        raise Stopped(self._noted or signal.SIGINT, message)
