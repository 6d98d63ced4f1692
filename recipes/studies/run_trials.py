"""Run training recipes on tiny data, one after another in this process, and write down the loss of every step.

    python recipes/launch.py 2 recipes/studies/run_trials.py folder=runs/trial kind=several

It is what `compare_processes.py` starts. Outputs get the name of the trial with `kind` behind it.
"""

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from weightgen import training
from weightgen.training.interrupts import Stopped
from weightgen.training.trials import TRIALS, command, output_of, run_recipe

ROOT = Path(__file__).parents[2]


@dataclass
class Config:
    folder: str = MISSING  # with the data of `make_trial_data`, and outputs of earlier trials
    kind: str = ""  # behind the names of the outputs
    trials: list[str] | None = None  # by default all
    more: dict[str, Any] = field(
        default_factory=dict
    )  # further settings of the recipes that train by gradients
    stop: int | None = None  # the last process gets Ctrl-C in this step of every trial


def run(words: list[str], losses_file: Path, stop: int | None) -> None:
    """Run a recipe with its settings; the loss of every step goes to a file."""
    losses: list[float] = []
    update = training.update

    def watched(run: Any, optimizer: Any, loss: Any, *args: Any, **options: Any) -> None:
        losses.append(loss.item())
        accelerator = run.accelerator
        if run.done == stop and accelerator.process_index == accelerator.num_processes - 1:
            signal.raise_signal(signal.SIGINT)
        update(run, optimizer, loss, *args, **options)
        if accelerator.is_main_process:
            losses_file.write_text(json.dumps(losses))

    training.update = watched
    try:
        run_recipe(words)
    except Stopped as stopped:
        if stop is None:
            raise
        print(stopped)
    finally:
        training.update = update


def main(cfg: Config) -> None:
    folder = Path(cfg.folder)
    for name in cfg.trials or TRIALS:
        output = output_of(folder, name, cfg.kind)
        more = cfg.more if TRIALS[name][0].startswith("train_") else {}
        words = command(ROOT, folder, name, output, checkpoint_every=3, **more)
        run(words, output.with_suffix(".json"), cfg.stop)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
