"""Does memory grow with the number of tasks? The largest memory of each stage with 256, 1,024 and 4,096 tasks, and at the paper's size.

    python recipes/benchmarks/memory.py                       # writes results/trust/memory.json and .md
    python recipes/benchmarks/memory.py sizes=[tiny]

Tasks, features and starts are random; every stage does a few steps, which take as much memory as many, in a process of its own. The paper's
size is 870 tasks, 8 draws and 394,240 weights (Nava, Kobayashi et al., 2023), with the HVAE's layers of 512 and 256: 404 M parameters, and
the denoiser's of 8192, 16384 and 8192, as the released code has them, without squeeze-and-excitation: 568 M. It needs 45 GB of disk.
20 minutes on one CPU thread.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import torch
from made_up_tasks import make_tasks

from weightgen import InputError, training
from weightgen.reports.memory import memory_text
from weightgen.reports.tables import write_report
from weightgen.reports.timing import machine
from weightgen.training.trials import environment

ROOT = Path(__file__).parents[2]
WATCHED = """
import runpy, sys
from weightgen.reports.timing import largest_memory
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(largest_memory())
"""


@dataclass
class Config:
    output: str = "results/trust/memory"  # .json and .md are appended
    sizes: list[str] = field(default_factory=lambda: ["256", "1024", "4096", "paper"])
    folder: str | None = None  # where the data go meanwhile; by default a temporary folder


class Size(NamedTuple):
    tasks: int
    draws: int
    embed_dim: int
    hidden_dim: int  # of the adapter
    layers: list[int]  # of the HVAE
    denoiser: list[int]
    latent_dim: int = 32


SIZES = {
    "tiny": Size(24, 2, 24, 4, [8], [8], 4),
    **{str(tasks): Size(tasks, 2, 512, 64, [64], [384] * 3) for tasks in (256, 1024, 4096)},
    "paper": Size(870, 8, 768, 256, [512, 256], [8192, 16384, 8192]),
}


def stages(size: Size, folder: Path) -> dict[str, dict[str, Any]]:
    """The recipes with their settings, in their order."""
    common = {
        "dataset": folder / "data",
        "steps": 2,
        "batch_size": 32,
        "validate_every": 2,
        "keep_checkpoints": 1,
    }
    zoo, hvae = {"adapted": folder / "adapt_tasks"}, {"hvae": folder / "train_hvae"}
    network = {"network.hidden_dim": size.hidden_dim}
    autoencoder = {"hypernet.latent_dim": size.latent_dim, "hypernet.hidden_dims": size.layers}
    denoiser = {"denoiser.hidden_dims": size.denoiser, "denoiser.squeeze": False}
    return {
        "train_hypernet": {**common, **network, "batch_size": 8},
        "adapt_tasks": {"dataset": common["dataset"], "start": folder / "train_hypernet", "draws": size.draws, "steps": [1]},
        "train_hvae": {**common, **zoo, **autoencoder},
        "train_hyperldm": {**common, **zoo, **hvae, **denoiser},
        "train_hyperclip": {**common, **zoo, "encoder.standardize": True},
    }  # fmt: skip


def measured(recipe: str, settings: dict[str, Any], folder: Path) -> dict[str, float]:
    """Run a recipe in a process of its own: its largest memory in MB, and its seconds."""
    words = [f"{key}={str(value).replace(' ', '')}" for key, value in settings.items()]
    command = [str(ROOT / f"recipes/{recipe}.py"), f"output={folder / recipe}", *words]
    began, how = time.monotonic(), {"env": environment(), "cwd": ROOT, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", WATCHED, *command], **how)
    if done.returncode:
        raise InputError(f"{recipe} ended with status {done.returncode}: {done.stderr[-500:]}")
    peak = int(done.stdout.split()[-1])
    return {"peak_mb": round(peak / 2**20), "seconds": round(time.monotonic() - began)}


def main(cfg: Config) -> None:
    if wrong := [name for name in cfg.sizes if name not in SIZES]:
        raise InputError(f"no size {wrong[0]!r}, only {', '.join(SIZES)}")
    facts, rows = machine(torch.device("cpu")), []
    for name in cfg.sizes:
        folder = Path(mkdtemp(dir=cfg.folder))
        try:
            make_tasks(folder, SIZES[name].tasks, SIZES[name].embed_dim)
            found: dict[str, Any] = {}
            for recipe, settings in stages(SIZES[name], folder).items():
                found[recipe] = measured(recipe, settings, folder)
                print(name, recipe, found[recipe], flush=True)
            held = sum(file.stat().st_size for file in folder.glob("adapt_tasks/weights-*")) / 2**20
        finally:
            shutil.rmtree(folder)
        rows.append({"size": name, **SIZES[name]._asdict(), "weights_mb": round(held), "stages": found})
        rows.sort(key=lambda row: [*SIZES].index(row["size"]))
        write_report(cfg.output, report := {"machine": facts, "rows": rows}, memory_text(report))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
