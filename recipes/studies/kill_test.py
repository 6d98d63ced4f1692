"""Does a run that is killed anywhere end with the same bytes? SIGKILL at random moments of every training recipe on tiny data.

    python recipes/studies/kill_test.py output=results/trust/kills.json

Every recipe is run once to its end. Then runs are killed at a random moment, some while a checkpoint is written, and the same command
is run again: all safetensors files must be equal to those of the uninterrupted run, byte for byte, and nothing but the output may be
left. 5 minutes on 2 CPU cores.
"""

import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from weightgen import InputError, training
from weightgen.data.zoo import writer
from weightgen.storage.files import write_json
from weightgen.training.kills import digests, end, slow_writes, start, wait_for_partial
from weightgen.training.trials import TRIALS, command, make_trial_data, output_of, run_recipe

ROOT = Path(__file__).parents[2]


@dataclass
class Config:
    output: str = "results/trust/kills.json"
    kills: int = 50
    seed: int = 0
    trials: list[str] | None = None  # by default all


def kill(
    name: str, folder: Path, draws: random.Random, seconds: float, number: int, writing: bool
) -> dict[str, Any]:
    """Kill one run of a trial at a random moment, run it to its end, and say what came of it."""
    output = output_of(folder, name, f"_killed_{number}")
    words = command(ROOT, folder, name, output, checkpoint_every=2)
    status, moment = 0, None

    def killed() -> None:
        if writing:
            slow_writes()
        run_recipe(words)

    while status != -signal.SIGKILL:  # until the run was not faster than the kill
        shutil.rmtree(output, ignore_errors=True)
        process = start(killed)
        if writing:
            wait_for_partial(output, process, draws.randrange(1, 5))
        else:
            moment = round(draws.uniform(0.02, seconds), 3)
            time.sleep(moment)
        os.kill(process, signal.SIGKILL)
        status = end(process)
    left = sorted(
        path.name for path in output.parent.glob(f"*{output.name}*") if path.name != f"{output.name}.json"
    )
    again = end(start(lambda: run_recipe(words)))
    equal = digests(output) == digests(output_of(folder, name, ""))
    rests = [path.name for path in output.parent.glob(f"*{output.name}*") if path.name != output.name]
    shutil.rmtree(output, ignore_errors=True)
    found = {
        "trial": name,
        "while_writing": writing,
        "seconds": moment,
        "left": left,
    }
    return {**found, "status": status, "status_again": again, "equal": equal, "rests": rests}


def main(cfg: Config) -> None:
    writer.SHARD = 4096  # bytes: several shards of tiny data; runs are forks of this process
    draws, place = random.Random(cfg.seed), Path(mkdtemp())
    folder, names, seconds = place / "trial", cfg.trials or list(TRIALS), {}
    try:
        end(start(lambda: make_trial_data(folder)))
        for name in names:
            began, words = (
                time.monotonic(),
                command(ROOT, folder, name, output_of(folder, name, ""), checkpoint_every=2),
            )
            if status := end(start(partial(run_recipe, words))):
                raise InputError(f"{name} ended with status {status}")
            seconds[name] = time.monotonic() - began
        rows = []
        for number, name in enumerate(islice(cycle(names), cfg.kills)):
            writing = number % 3 == 2 and name != "embed"
            rows.append(kill(name, folder, draws, seconds[name], number, writing))
            print(rows[-1], flush=True)
    finally:
        shutil.rmtree(place)
    good = [row for row in rows if row["equal"] and row["status_again"] == 0 and not row["rests"]]
    facts: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "seed": cfg.seed,
        "kills": len(rows),
        "equal": len(good),
    }
    facts["while_writing"] = sum(row["while_writing"] for row in rows)
    write_json(cfg.output, {**facts, "runs": rows})
    if len(good) < len(rows):
        raise InputError(
            f"only {len(good)} of {len(rows)} killed runs ended with the same bytes: see {cfg.output}"
        )


if __name__ == "__main__":
    training.run(main, Config, __doc__)
