r"""Fine-tune the base network on every training task, several times, each time on a random part of its examples.

    accelerate launch recipes/adapt_tasks.py --config recipes/configs/adapt_tasks/scenes.yaml \
        dataset=runs/demo/photos/dataset start=runs/demo/maml output=runs/demo/adapted

Writes a zoo (weightgen.data.zoo) of weights (R, T, P), R draws of T tasks, shard by shard; with `inner_variable=latents`, also the
adapted `latents` (R, T, Z) of an HNet. With `support`, a SupportHNet writes the weights in one pass, in place of gradient steps.
The number and size of the steps are those with the best validation accuracy (87 % on Photos) that lower the loss.
20 seconds on 2 CPU cores. Nava, Kobayashi et al., 2023: appendix A.6 (50 steps of 0.01 for MNet, of 0.1 for HNet).
"""

import sys
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from weightgen import InputError, training
from weightgen.adaptation import adapt, check_adapted, check_inner_variable, initial_points
from weightgen.evaluation import evaluate
from weightgen.evaluation.step_sizes import Trial, try_step_sizes
from weightgen.shots import resplit
from weightgen.tasks import TaskBatch, batches


@dataclass
class Config(training.RunConfig):
    dataset: str | None = None  # Meta-VQA folder
    tasks: dict[str, Any] | None = None  # class of your own tasks, in place of a data set (docs/extending.md)
    start: str = training.MISSING  # run of train_hypernet
    support: str | None = None  # run of train_support, for weights in one pass
    features: str | None = None  # name of the features, where the data set has several
    inner_variable: str = "weights"  # what is adapted: weights, or the latents of an HNet
    keep_weights: bool = True  # with latents: also write the weights they give, for HyperCLIP
    dtype: str = "float32"  # of the weights on disk, or float16
    draws: int = 8  # R; each sees a random two thirds to all of a task's examples, as in the authors' code
    examples: int | None = None  # of each set of a task, drawn anew for each draw; by default all
    steps: list[int] = field(default_factory=lambda: [50])  # tried on the validation tasks
    lrs: list[float] = field(default_factory=lambda: [0.01])
    batch_size: int = 32
    checkpoint_every: int = 20  # batches


def chosen(cfg: Config, trials: list[Trial]) -> dict[str, Any]:
    """The number and size of steps with the best accuracy of those that lower the loss."""
    for trial in trials:
        if trial.accuracy is None:
            what = f"the loss goes from {trial.before:.3g} to {trial.after:.3g}"
            print(f"{trial.steps} steps of {trial.lr} diverge: {what}", file=sys.stderr)
    sound = [trial for trial in trials if trial.accuracy is not None]
    tried = [{"steps": t.steps, "lr": t.lr, "validation_accuracy": t.accuracy} for t in sound]
    if not tried:
        raise InputError(f"adaptation diverged with every step size: give smaller ones than lrs={cfg.lrs}")
    return {**max(tried, key=lambda one: one["validation_accuracy"]), "tried": tried}


@torch.no_grad()
def main(cfg: Config) -> None:
    if cfg.support and cfg.inner_variable == "latents":
        raise InputError("a SupportHNet writes weights, no latents: leave out inner_variable, or support")
    run = training.start_run(cfg, reads=("dataset", "start", "support"))
    train, validation = training.open_tasks(cfg, run.device, "train", "validation")
    network, hypernet = training.load_run(cfg.start, run.device, cfg.trust_remote_code)
    check_inner_variable(hypernet, cfg.inner_variable)
    writer = training.load_module(cfg.support, "hypernet", run.device) if cfg.support else None
    if writer is not None and writer.space != network.space:
        raise InputError(f"{cfg.support} writes weights of another network than {cfg.start} has")
    tried = try_step_sizes(network, hypernet, validation, cfg.steps, cfg.lrs, cfg.inner_variable)
    facts = chosen(cfg, tried)

    def adapted(batch: TaskBatch) -> Tensor:
        if writer is not None:
            return writer(batch.support, batch.context["answers"])
        start, decode = initial_points(hypernet, batch.embeds, cfg.inner_variable)
        steps = {"steps": facts["steps"], "lr": facts["lr"], "decode": decode}
        return adapt(network, start, batch.support, batch.context, **steps)

    latents = [hypernet.latent_dim] if cfg.inner_variable == "latents" else []
    found = training.AdaptedWriter(run, network.space, (cfg.draws, len(train), *latents), cfg.dtype)
    training.resume(run, found=found)
    jobs = list(product(range(cfg.draws), batches(train.sizes, cfg.batch_size)))
    process, processes = run.accelerator.process_index, run.accelerator.num_processes
    for step in training.step_numbers(run, -(-len(jobs) // processes)):
        made = []
        for number in range(len(jobs))[step * processes + process :][:1]:  # none where jobs have run out
            training.seed_step(cfg.seed, number)
            part = torch.rand(len(jobs[number][1])) / 3 + 2 / 3
            points = adapted(resplit(train.batch(jobs[number][1], cfg.examples), part.to(run.device)))
            check_adapted(points, facts["steps"], facts["lr"])
            made.append((jobs[number], points.cpu()))
        for (draw, rows), points in training.gather_object(made):
            found.append(draw, rows, points)
    modules = {"network": network.module, "hypernet": hypernet}
    if writer is not None:
        modules["support"] = writer
        facts["validation_accuracy"] = evaluate(network, validation, lambda batch, _: adapted(batch)).macro
    facts |= {"draws": cfg.draws, "seed": cfg.seed, "inner_variable": cfg.inner_variable, "start": cfg.start}
    how = {
        "hypernet": hypernet,
        "questions": train.questions,
        "keep_weights": cfg.keep_weights,
        "facts": facts,
    }
    training.save_run(run, facts, "adapted.json", lambda folder: found.finish(folder, **how), **modules)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
