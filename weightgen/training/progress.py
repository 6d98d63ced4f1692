"""The progress of a run on standard error: a bar in a terminal, else one line every ten seconds. For recipes only."""

import sys
import time
from typing import Self

from torch import Tensor
from tqdm import tqdm

from weightgen.training.runs import Run

SECONDS = 10.0  # between lines


class Progress:
    """A context that shows how far a run is, what it has noted in `run.shown`, and its best score.

    Args:
        run: the run; nothing is shown in any but the main process.
        steps: its last step.
    """

    def __init__(self, run: Run, steps: int) -> None:
        self.run = run
        self.steps = steps
        self.bar: tqdm[int] | None = None
        self._began = self._last = time.monotonic()
        self._first = run.done

    def __enter__(self) -> Self:
        if self.run.accelerator.is_main_process and sys.stderr.isatty():
            self.bar = tqdm(desc=self.run.name, initial=self._first, total=self.steps)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self) -> None:
        """One more step is done."""
        if self.bar is not None:
            if time.monotonic() - self._last > 0.5:
                self._last = time.monotonic()
                self.bar.set_postfix_str(self._noted(), refresh=False)
            self.bar.update()
        elif self.run.accelerator.is_main_process and time.monotonic() - self._last >= SECONDS:
            self._last = time.monotonic()
            rate = (self.run.done - self._first) / (self._last - self._began)
            left = (self.steps - self.run.done) / rate
            print(
                f"{self.run.name}: step {self.run.done} of {self.steps}, {left / 60:.0f} minutes left, {self._noted()}",
                file=sys.stderr,
                flush=True,
            )

    def _noted(self) -> str:
        values = dict(self.run.shown)
        for part in self.run.parts.values():
            facts = getattr(part, "facts", {})
            values |= {f"best {name}": value for name, value in facts.items() if isinstance(value, float)}
        numbers = {
            name: value.item() if isinstance(value, Tensor) else value for name, value in values.items()
        }
        return ", ".join(f"{name} {number:.3f}" for name, number in numbers.items())
