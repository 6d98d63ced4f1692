"""The parts of a training loop: the numbers of its steps, one update, means. For recipes only.

A run can stop after any step and go on bit for bit as if it had not: whatever changes is in the checkpoint,
or is a function of the step, as the batch (`weightgen.tasks.TaskBatchSampler`), the learning rate
(`learning_rate`) and the randomness (`seed_step`) are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from weightgen.errors import InputError
from weightgen.tasks import TaskBatchSampler
from weightgen.training.averages import Average
from weightgen.training.divergence import Health, watch_loss, watch_weights
from weightgen.training.interrupts import Interrupts
from weightgen.training.progress import Progress
from weightgen.training.resuming import write_checkpoint
from weightgen.training.runs import Run
from weightgen.training.sharding import finish_gradients


def step_numbers(run: Run, steps: int) -> Iterator[int]:
    """The steps from where the run is to `steps`, each with torch's randomness set to a function of it.

    Writes checkpoints between steps, shows the progress, and on Ctrl-C or SIGTERM ends the step, writes a checkpoint and stops.

    Raises:
        InputError: fewer than one step, or than the run has done.
        Stopped: the run was asked to stop.
    """
    if steps < 1:
        raise InputError(f"expected steps from 1 up, got {steps}")
    if steps < run.done:
        raise InputError(f"{run.output} has done {run.done} steps: expected as many or more, got {steps}")
    with Progress(run, steps) as progress, Interrupts() as interrupts:
        for step in range(run.done, steps):
            seed_step(run.settings["seed"], step)
            _release(run)
            yield step
            run.done = step + 1
            progress.show()
            stopped = interrupts.any(run.accelerator)
            if stopped or run.done % run.checkpoint_every == 0 or run.done == steps:
                write_checkpoint(run)
            _release(run)
            if stopped and run.done < steps:
                interrupts.stop(
                    f"{run.output}: stopped after step {run.done} of {steps}; the same command goes on from there"
                )


def _release(run: Run) -> None:
    """Give back the memory of averages that lie in files: a step does not need them until its end."""
    for part in run.parts.values():
        if isinstance(part, Average):
            part.release()


def steps(run: Run, sampler: TaskBatchSampler, source: Any = None) -> Iterator[tuple[int, Sequence[int]]]:
    """`step_numbers`, each with the tasks of its batch, the same in every process.

    Args:
        run: the run.
        sampler: of batches of rows of `source`.
        source: the tasks, whose questions errors then name.
    """
    sampler.start_step, run.source = run.done, source
    for step, rows in zip(step_numbers(run, sampler.steps), sampler, strict=False):
        run.tasks = rows
        yield step, rows


def due(step: int, every: int, steps: int) -> bool:
    """Whether something that is done every so many steps, and at the end, is to be done after `step`."""
    return (step + 1) % every == 0 or step + 1 == steps


def update(
    run: Run,
    optimizer: Optimizer,
    loss: Tensor,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    max_grad_norm: float | None = None,
) -> None:
    """One step of the optimiser.

    Args:
        run: the run, which shows the loss in its progress.
        optimizer: the optimiser.
        loss: a scalar; see `outcome`, which has added up the gradients of all other parts of the batch.
        parameters: whose gradients are clipped.
        lr: the learning rate of this step.
        max_grad_norm: where the norm of all gradients is clipped; by default nowhere.

    Raises:
        InputError: the training has diverged, see `Health`.
    """
    if run.health is None:
        run.health = Health(optimizer)
    watch_loss(run, run.health, loss.detach().mean().item())
    run.shown["loss"] = loss.detach()
    for group in optimizer.param_groups:
        group["lr"] = lr
    with run.randomness:  # a checkpointed step draws its randomness again
        run.accelerator.backward(loss)
    finish_gradients(run, optimizer, parameters, max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    watch_weights(run, run.health)


class Mean:
    """Means of scalars since the last time that they were taken.

    Args:
        names: of the scalars.
        device: where they lie.
    """

    def __init__(self, names: Sequence[str], device: torch.device | str = "cpu") -> None:
        self.names = list(names)
        self._totals = torch.zeros(len(names) + 1, device=device)

    def update(self, values: Mapping[str, Tensor]) -> None:
        """Add one value of each."""
        found = [values[name].detach() for name in self.names]
        self._totals += torch.stack([*found, torch.ones_like(found[0])])

    def take(self) -> dict[str, float]:
        """The means by name; begins anew."""
        means = (self._totals[:-1] / self._totals[-1]).tolist()
        self._totals.zero_()
        return dict(zip(self.names, means, strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far, for checkpoints."""
        return {"totals": self._totals}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from sums so far."""
        self._totals.copy_(state["totals"])


def seed_step(seed: int, step: int) -> None:
    """Make torch's randomness a function of (seed, step), the same in every process: call it first in every step."""
    if seed < 0:
        raise InputError(f"expected a seed from 0 up, got {seed}")
    torch.manual_seed(int(np.random.SeedSequence([seed, step, 0]).generate_state(1, np.uint64)[0]))
