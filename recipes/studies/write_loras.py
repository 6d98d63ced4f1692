r"""Train a hypernetwork that writes low-rank adapters from questions, on the loss of the tasks themselves.

    python recipes/studies/write_loras.py dataset=runs/demo-scenes/scenes/dataset start=runs/loras/common output=runs/loras/seed0/written

It starts at the adapter of all tasks that `fit_loras.py` has trained, and needs no fine-tuned adapters. The state with the best accuracy
on validation tasks is kept. 5 minutes on a CPU core.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from weightgen import training
from weightgen.evaluation import evaluate
from weightgen.hypernets import HNet
from weightgen.objectives import AdaptationLoss
from weightgen.reports.loras import one_of_each, open_study, read_adapter
from weightgen.tasks import TaskBatchSampler


@dataclass
class Config(training.TrainConfig):
    dataset: str = training.MISSING
    start: str = training.MISSING  # output of fit_loras.py
    tower: str = "runs/loras/tower"
    features: str = "clip"
    rank: int = 4
    input_noise: float = 0.3
    steps: int = 200
    batch_size: int = 32
    examples: int = 12  # of each set of a task
    lr: float = 1e-3
    validate_every: int = 50
    max_grad_norm: float = 10.0


def main(cfg: Config) -> None:
    run = training.start_run(cfg, reads=("dataset", "start"))
    study = open_study(cfg.dataset, cfg.features, ("train", "validation"), Path(cfg.tower), cfg.rank)
    network, (train, validation) = study.network, study.tasks.values()
    validation = validation.subset(one_of_each(validation.meanings))
    hypernet = HNet(network.space, train.embeds.shape[1], hidden_dims=(256, 256), input_noise=cfg.input_noise)
    hypernet.init_weights(read_adapter(network, Path(cfg.start) / "start")).fit(train.embeds)
    objective = AdaptationLoss(network, hypernet)
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=cfg.lr)
    objective, optimizer = training.prepare(run, objective, optimizer)

    def validate() -> float:
        hypernet.eval()
        found = evaluate(network, validation, lambda batch, _: hypernet(batch.embeds)).macro  # type: ignore[arg-type]
        hypernet.train()
        return found

    best = training.Best(run, hypernet, validate())
    training.resume(run, optimizer, hypernet=hypernet, best=best)
    sampler = TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed)
    for step, rows in training.steps(run, sampler, train):
        loss = training.outcome(run, objective, train.batch(rows, cfg.examples)).loss
        lr = training.learning_rate(cfg, step, warmup=20)
        training.update(run, optimizer, loss, hypernet.parameters(), lr=lr, max_grad_norm=cfg.max_grad_norm)
        if training.due(step, cfg.validate_every, cfg.steps):
            best.update(step + 1, validate())
    training.save_run(run, {**best.restore(), "steps": cfg.steps, "seed": cfg.seed}, hypernet=hypernet)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
