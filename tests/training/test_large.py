"""What a training of large modules takes: four copies of what is trained, one of what is frozen."""

import json
import os
import subprocess
import sys

import pytest

STEPS = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from weightgen import training
from weightgen.training import averages
from weightgen.training.runs import Run
from weightgen.training.divergence import Health

averages.LARGE = 0
folder = Path(sys.argv[1])
found = {}

def peak(name):
    words = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    found[name] = int(words["VmHWM"].split()[0]) * 1024
    Path("/proc/self/clear_refs").write_text("5")

torch.set_num_threads(1)
run = Run(training.Accelerator(cpu=True), "test", folder / "out", {"keep_checkpoints": 1, "checkpoint_every": 1, "seed": 0}, {})
run.folder.mkdir()
run.phases = [{"from_step": 0}]
layer = nn.Linear(8, 8)
layer(torch.ones(1, 8)).sum().backward()  # what the first use loads, 70 MB with an optimizer's
torch.optim.Adam(layer.parameters(), fused=True).step()
peak("start")
peak("start")
trained = nn.Sequential(*(nn.Linear(3000, 3000) for _ in range(4)))
frozen = nn.Linear(3000, 6000).requires_grad_(False)
model = nn.ModuleDict({"trained": trained, "frozen": frozen})
average = training.Average(model, 0.99, run.folder)
optimizer = torch.optim.Adam(trained.parameters(), lr=1e-4, fused=True)
best = training.Best(run, average.module, -1.0)
training.resume(run, optimizer, model=model, average=average, best=best)
for step in training.step_numbers(run, 2):
    loss = frozen(trained(torch.randn(4, 3000))).square().mean()
    training.update(run, optimizer, loss, trained.parameters(), lr=1e-4, max_grad_norm=1.0)
    average.update_parameters(model)
    average.module["frozen"](average.module["trained"](torch.ones(1, 3000)))
    best.update(step + 1, float(step))
peak("training")
best.restore()
peak("restoring")
found["trained"] = sum(p.nbytes for p in trained.parameters())
found["frozen"] = sum(p.nbytes for p in frozen.parameters())
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is told by /proc")
def test_four_copies_of_what_is_trained(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", STEPS, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-800:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    largest = found["trained"] / 4
    taken = found["training"] - found["start"]
    assert taken < 4 * found["trained"] + found["frozen"] + 1.5 * largest
    assert taken > 3.5 * found["trained"]  # or it measures nothing
    assert found["restoring"] - found["start"] < 4 * found["trained"] + found["frozen"] + largest
