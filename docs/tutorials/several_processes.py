# %% [markdown]
# # Training on several processes
#
# Every training recipe runs under `accelerate launch`. The batch is shared out over the processes and one of them writes the output, so the settings stay the
# same. Here two processes on the CPU train a HyperTransformer for a few steps.

# %%
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.storage.files import read_json

root = Path(".") if Path("recipes").is_dir() else Path("../..")
folder = Path(tempfile.mkdtemp())
images = np.random.default_rng(0).integers(0, 256, (120, 14, 14), dtype=np.uint8)
splits = {"train": range(6), "validation": range(6, 9), "test": range(9, 12)}
write_few_shot_arrays(folder / "data", images, np.repeat(np.arange(12), 10), list("abcdefghijkl"), splits, {})

# %% [markdown]
# The command, as in a shell:
#
#     accelerate launch --cpu --num_processes 2 recipes/train_hypertransformer.py data=DATA output=OUT steps=4 ...

# %%
launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
          "--dynamo_backend=no"]  # fmt: skip
settings = [
    "network={channels: 4, depth: 2}",
    "hypernet.layers=1",
    "ways=3",
    "queries=2",
    "batch_size=4",
    "steps=4",
]
settings += ["validate_every=2", "validation_episodes=4", "decay_steps=4", "warmup=1"]
words = [f"data={folder / 'data'}", f"output={folder / 'out'}", *settings]
done = subprocess.run([sys.executable, *launch, str(root / "recipes/train_hypertransformer.py"), *words],
                      env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)  # fmt: skip
assert done.returncode == 0, done.stderr
print(done.stdout.strip().splitlines()[-1])
assert read_json(folder / "out" / "training.json")["step"] == 4

# %% [markdown]
# On a machine with GPUs, `accelerate config` asks once how many there are; then `accelerate launch recipes/NAME.py ...` uses all of them. On several machines,
# run the same command on each, with its own rank:
#
#     accelerate launch --num_machines 2 --num_processes 16 --machine_rank 0 \
#         --main_process_ip FIRST_MACHINE --main_process_port 29500 recipes/train_hypernet.py dataset=... output=...
#
# The data set and the output lie where all machines see them. A run that was stopped goes on with the same command.
