"""Losses and weights of which nothing good can come: NaN, infinity, and those that only divergence gives. For recipes only."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError
from weightgen.nn.across_processes import alone
from weightgen.protocols import Outcome
from weightgen.tasks import TaskBatch
from weightgen.training.own_rows import own_rows
from weightgen.training.runs import Run
from weightgen.training.sharding import norm_of

RISEN = 3.0  # times (the first loss + 1): from log C nats to what only divergence gives
GROWN = (
    1000.0  # times the norm of all weights at the start: what Adam does with a learning rate of a thousand
)
ADVICE = "training stops; try a lower learning rate, or look for such values in the data"
LEAST = 0.01  # root mean square of the weights at the start that is assumed at least: some start at 0


class Health:
    """What is remembered of a run to tell that it diverges; it is in the checkpoints.

    A run fails if more than half of its steps had a loss above three times (the first + 1), or if its weights have become a thousand times
    as large as at the start. A healthy run is far from both: its losses fall, and its weights keep their order of magnitude.

    Args:
        optimizer: its parameters are the weights.
    """

    def __init__(self, optimizer: Optimizer | None) -> None:
        weights = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
        self.weights: list[Tensor] = weights
        count = sum(weight.numel() for weight in weights)
        self.largest = GROWN * max(norm_of(weights), LEAST * count**0.5)
        self.first: float | None = None
        self.risen = 0

    def state_dict(self) -> dict[str, Tensor]:
        """For checkpoints."""
        first = float("nan") if self.first is None else self.first
        return {"values": torch.tensor([first, self.risen, self.largest], dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint; those of earlier versions hold nothing."""
        if "values" in state:
            first, risen, self.largest = state["values"].tolist()
            self.first, self.risen = None if first != first else first, int(risen)


def watch_loss(run: Run, health: Health, loss: float) -> None:
    """Warn once of a loss far above the first one, and stop where it was so in more than half of all steps.

    Raises:
        InputError: see above; or it is NaN or infinite, of a loss that is not from `outcome`.
    """
    if not math.isfinite(loss):
        raise InputError(f"{run.name}: the loss became {loss} at step {run.done}{of_tasks(run)}: {ADVICE}")
    if health.first is None:
        health.first = loss
    limit = RISEN * (abs(health.first) + 1)
    if abs(loss) <= limit:
        return
    health.risen += 1
    what = (
        f"{run.name}: the loss rose from {health.first:.3g} to {loss:.3g} by step {run.done}{of_tasks(run)}"
    )
    if health.risen == 1 and run.accelerator.is_main_process:
        print(f"warning: {what}: training diverges; write a lower lr", file=sys.stderr)
    if health.risen > run.settings.get("steps", float("inf")) / 2:
        raise InputError(
            f"{what}, and was above {limit:.3g} in {health.risen} of {run.done + 1} steps: training diverged; write a lower lr"
        )


def watch_weights(run: Run, health: Health) -> None:
    """Stop where the weights are NaN, infinite, or a thousand times as large as at the start.

    Raises:
        InputError: see above.
    """
    norm = norm_of(health.weights)
    if not norm <= health.largest:
        raise InputError(
            f"{run.name}: after step {run.done + 1}, the norm of the weights is {norm:.3g}, more than {GROWN:g} times that of the start: "
            "training diverged; write a lower lr"
        )


def check_loss(run: Run, objective: Callable[[Any], Outcome], batch: Any, loss: Tensor) -> None:
    """Refuse a loss that is NaN or infinite, and name the tasks that make it so.

    Raises:
        InputError: see above.
    """
    if bool(torch.isfinite(loss).all()):
        return
    size = _size(batch)
    if isinstance(objective, nn.Module):
        objective = run.accelerator.unwrap_model(objective)
    wrong = [row for row in range(size) if not _is_finite(run, objective, batch, row)]
    found = f": it is so for {of_rows(run, wrong)} alone" if 0 < len(wrong) < size else of_tasks(run)
    raise InputError(
        f"{run.name}: the loss became {loss.detach().mean().item()} at step {run.done}{found}: {ADVICE}"
    )


def check_tasks_finite(values: Tensor, tasks: MetaVQATasks, name: str) -> None:
    """Refuse NaN and infinite numbers of tasks before they are learned from.

    Args:
        values: with shape (R, T, *): R draws of each of T tasks.
        tasks: the T tasks.
        name: of the values, for the error.

    Raises:
        InputError: naming the first such task.
    """
    for draw, rows in enumerate(values):
        wrong = ~rows.isfinite().flatten(1).all(dim=1)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise InputError(
                f"the {name} of {tasks.describe(row)} hold NaN or infinite numbers (draw {draw}): make them again"
            )


def of_tasks(run: Run) -> str:
    """The tasks of the present step, for messages."""
    return f", with {of_rows(run, range(len(run.tasks)))}" if len(run.tasks) else ""


def of_rows(run: Run, rows: Sequence[int]) -> str:
    """Some rows of the present batch, for messages: the tasks by number and question, where they are known."""
    if not len(run.tasks):
        return ", ".join(f"example {row}" for row in rows[:20])
    tasks = [run.tasks[row] for row in rows if row < len(run.tasks)]
    if run.source is not None and len(tasks) <= 3:
        return ", ".join(run.source.describe(task) for task in tasks)
    numbers = tasks if run.source is None else [run.source.kept[task] for task in tasks]
    return "the tasks " + ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")


@torch.no_grad()
def _is_finite(run: Run, objective: Callable[[Any], Outcome], batch: Any, row: int) -> bool:
    """Whether a single row of the batch has a loss; it is computed without the other processes."""
    with alone():
        return bool(torch.isfinite(objective(own_rows(batch, row, _size(batch))).loss).all())


def _size(batch: Any) -> int:
    return len(batch.embeds) if isinstance(batch, TaskBatch) else len(batch[0])
