"""What recipes need to train: functions, no trainer. Recipes use it, the library does not.

run = training.start_run(cfg, reads=("dataset",))
...
best = training.Best(run, hypernet, validate())
training.resume(run, optimizer, hypernet=hypernet, best=best)
for step, rows in training.steps(run, sampler, train):
loss = training.outcome(run, objective, train.batch(rows)).loss
training.update(run, optimizer, loss, hypernet.parameters(), lr=training.learning_rate(cfg, step))
if training.due(step, cfg.validate_every, cfg.steps):
best.update(step + 1, validate())
training.save_run(run, best.restore(), network=network.module, hypernet=hypernet)
"""

from weightgen.errors import needs, one_line_errors

# Scripts alone import this room, and before anything else that is optional: they end with one line, not with a traceback.
with one_line_errors(), needs("train"):
    from accelerate import Accelerator
    from accelerate.utils import gather_object
    from omegaconf import MISSING

from weightgen.training.adapted import AdaptedTasks, AdaptedWriter
from weightgen.training.averages import Average
from weightgen.training.best import Best
from weightgen.training.commands import run
from weightgen.training.components import build, build_part, options, pick, spec
from weightgen.training.config import parse
from weightgen.training.divergence import check_tasks_finite
from weightgen.training.log import log_metrics, read_metrics
from weightgen.training.loop import (
    Mean,
    due,
    seed_step,
    step_numbers,
    steps,
    update,
)
from weightgen.training.memory import keep_memory
from weightgen.training.outputs import finish, save_run, snapshot
from weightgen.training.resuming import resume
from weightgen.training.runs import newest_state, start_run, unfinished, warn_of_other_data
from weightgen.training.saved import check_same, load_module, load_run, read_facts
from weightgen.training.schedules import learning_rate, warmup_cosine
from weightgen.training.settings import RunConfig, TrainConfig
from weightgen.training.sharding import prepare
from weightgen.training.shares import outcome
from weightgen.training.sources import held_out_loss, load_source, open_tasks

__all__ = [
    "MISSING", "Accelerator", "AdaptedTasks", "AdaptedWriter", "Average", "Best", "Mean", "RunConfig", "TrainConfig", "build", "build_part",
    "check_same", "check_tasks_finite", "due", "finish", "gather_object", "held_out_loss", "keep_memory", "learning_rate",
    "load_module", "load_run", "load_source", "log_metrics", "open_tasks", "options", "outcome", "parse", "pick", "prepare",
    "newest_state", "read_facts", "read_metrics",
    "resume", "run", "save_run", "seed_step", "snapshot", "spec", "start_run", "step_numbers", "steps",
    "unfinished", "update", "warmup_cosine", "warn_of_other_data",
]  # fmt: skip
