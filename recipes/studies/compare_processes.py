"""Do two processes learn what one learns? Every training recipe on tiny data with one process and with two.

    python recipes/studies/compare_processes.py output=results/trust/processes.json

For each run: the largest difference of the losses of its steps (relative, where they are above 1) and of its saved tensors, and the
step whose state was the best. `parts` runs computed each batch in two parts (gradient_accumulation_steps), `several_parts` those of two
processes; `sharded` runs kept large matrices in pieces over the processes (shard_above); `changed` runs were begun with two processes,
stopped in the middle, and ended with one in two parts. `above_1e-5` names what differs. 5 minutes on 2 CPU cores.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from weightgen import InputError, training
from weightgen.storage.files import read_json, read_tensors, write_json
from weightgen.training.trials import TRIALS, environment, make_trial_data, output_of

ROOT = Path(__file__).parents[2]
SHARDED = ("train_hvae", "train_hyperclip", "train_hyperldm")
PARTS = "{gradient_accumulation_steps: 2}"


@dataclass
class Config:
    output: str = "results/trust/processes.json"
    processes: int = 2
    trials: list[str] | None = None  # names; by default all


def run(folder: Path, trials: list[str], kind: str, processes: int, **more: Any) -> None:
    """Run trials one after another with so many processes."""
    launcher = [] if processes == 1 else [str(ROOT / "recipes/launch.py"), str(processes)]
    settings = {"folder": folder, "kind": kind, "trials": f"[{','.join(trials)}]", **more}
    words = [f"{key}={value}" for key, value in settings.items()]
    command = [sys.executable, *launcher, str(ROOT / "recipes/studies/run_trials.py"), *words]
    done = subprocess.run(command, env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"{kind or 'one process'}: status {done.returncode}: {done.stderr[-3000:]}")


def differences(one: Path, other: Path) -> dict[str, float]:
    """The largest difference of two numbers of each saved tensor of two outputs."""
    found = {}
    for file in sorted(path.relative_to(one) for path in one.rglob("*.safetensors")):
        if not file.name.startswith("checkpoint-"):
            left, right = read_tensors(one / file), read_tensors(other / file)
            for key in left:
                found[f"{file}:{key}"] = (left[key].double() - right[key].double()).abs().max().item()
    return found


def best_step(output: Path) -> Any:
    """The step of the state that was saved, or None where the last one is."""
    for name, part in (("training.json", "validation"), ("pipeline.json", "training")):
        if (output / name).exists():
            facts = read_json(output / name)
            return facts.get(part, facts).get("step")
    return None


def loss_apart(one: Path, other: Path) -> float:
    """The largest difference of the losses of a step of two runs, relative where they are above 1."""
    losses = [json.loads(path.with_suffix(".json").read_text()) for path in (one, other)]
    return max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(*losses, strict=True))


def compare(folder: Path, name: str) -> dict[str, Any]:
    """What differs between one process, several, and several that went on as one."""
    one, several = (output_of(folder, name, kind) for kind in ("", "_several"))
    apart = differences(one, several)
    found: dict[str, Any] = {"weights": max(apart.values())}
    found["tensors"] = {
        "all": len(apart),
        "above_1e-5": [key for key, value in apart.items() if value > 1e-5],
    }
    if one.with_suffix(".json").exists():
        found |= {"loss": loss_apart(one, several)}
        found |= {"best_step": best_step(one), "best_step_several": best_step(several)}
        for kind in ("parts", "several_parts", "changed", "sharded"):
            if (output := output_of(folder, name, f"_{kind}")).exists():
                found[f"weights_{kind}"] = max(differences(one, output).values())
                found |= {f"loss_{kind}": loss_apart(one, output)} if kind != "changed" else {}
    return found


def main(cfg: Config) -> None:
    folder, trials = Path(mkdtemp()), cfg.trials or list(TRIALS)
    longer = [name for name in trials if TRIALS[name][0].startswith("train_")]
    try:
        make_trial_data(folder / "trial")
        run(folder / "trial", trials, "", 1)
        run(folder / "trial", trials, "_several", cfg.processes)
        run(folder / "trial", longer, "_parts", 1, more=PARTS)
        run(folder / "trial", longer, "_several_parts", cfg.processes, more=PARTS)
        large = [name for name in longer if TRIALS[name][0] in SHARDED]
        run(folder / "trial", large, "_sharded", cfg.processes, more="{shard_above: 50}")
        run(folder / "trial", longer, "_changed", cfg.processes, stop=5)
        run(folder / "trial", longer, "_changed", 1, more=PARTS)
        rows = {name: compare(folder / "trial", name) for name in trials}
    finally:
        shutil.rmtree(folder)
    kinds = ("", "_parts", "_several_parts", "_sharded", "_changed")
    keys = [
        f"{what}{kind}" for what in ("loss", "weights") for kind in kinds if what + kind != "loss_changed"
    ]
    largest = {key: max(row.get(key, 0.0) for row in rows.values()) for key in keys}
    write_json(cfg.output, {"processes": cfg.processes, "largest": largest, "runs": rows})


if __name__ == "__main__":
    training.run(main, Config, __doc__)
