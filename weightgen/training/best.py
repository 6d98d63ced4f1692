"""The best state of a run, kept as a file beside its checkpoints. For recipes only."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from weightgen.training.checkpoint import (
    checkpoints,
    collected,
    load_checkpoint,
    read_record,
    write_collected,
)
from weightgen.training.runs import Run


class Best:
    """The state of a module at its best score so far; ties go to the earlier state.

    The state is written to `best-STEP.safetensors` in the folder of the unfinished run, so that it takes no memory. A checkpoint holds
    the facts alone, whose step names the file.

    Args:
        run: the run.
        module: the module whose state is kept.
        score: the score of its present state; higher is better.
        name: of the score, in the facts.

    Attributes:
        facts: the step, the score, and what else `update` was told of the best state.
    """

    def __init__(
        self, run: Run, module: nn.Module, score: float = 0.0, name: str = "validation_accuracy"
    ) -> None:
        self.run, self.module, self.name = run, module, name
        self.facts: dict[str, Any] = {"step": 0, name: score}
        if not (checkpoints(run.folder) and self.path(self.facts).is_file()):
            self._write()

    def path(self, facts: Mapping[str, Any]) -> Path:
        """The file of the state that has these facts."""
        return self.run.folder / f"best-{facts['step']:08d}.safetensors"

    def update(self, step: int, score: float, **facts: Any) -> None:
        """Keep the module's present state, after `step` steps, if its score is the best so far."""
        if score > self.facts[self.name]:
            self.facts = {"step": step, self.name: score, **facts}
            self._write()

    def restore(self) -> dict[str, Any]:
        """Put the best state back into the module, and return its facts. Training ends here: the state of the optimiser is let go.

        Raises:
            InputError: the file was damaged meanwhile.
        """
        self.run.accelerator.wait_for_everyone()  # the main process may be writing it
        if self.run.optimizer is not None:
            self.run.optimizer.state.clear()
        load_checkpoint(self.path(self.facts), {"best": self.module})
        return self.facts

    def check(self, facts: Mapping[str, Any]) -> None:
        """Refuse a file that is missing, damaged or of another module.

        Raises:
            InputError: it is.
        """
        read_record(self.path(facts))

    def keep(self, facts: list[Mapping[str, Any]]) -> None:
        """Remove all files but those of states with these facts, and of the best one."""
        needed = {self.path(known) for known in (*facts, self.facts)}
        for path in self.run.folder.glob("best-*.safetensors"):
            if re.fullmatch(r"best-\d+\.safetensors", path.name) and path not in needed:
                path.unlink()

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: the facts, which checkpoints hold, name the file."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is to be done: the facts are taken over."""

    def _write(self) -> None:
        found = collected({"best": self.module}, None, self.facts["step"])
        if self.run.accelerator.is_main_process:
            write_collected(self.path(self.facts), *found)
