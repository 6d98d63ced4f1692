"""Train a SupportHNet, which writes adapter weights from a few labelled examples in one pass.

    accelerate launch recipes/train_support.py --config recipes/configs/train_support/scenes.yaml \
        dataset=runs/demo/photos/dataset start=runs/demo/multitask output=runs/demo/support

Each step draws support sets of all sizes from the training tasks. The moving average with the best mean accuracy on
validation tasks over `shots` is saved. 3 minutes on one CPU thread.
After Zhmoginov et al., "HyperTransformer", 2022 (arXiv 2201.04182).
"""

from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch

from weightgen import training
from weightgen.data import load_tasks
from weightgen.evaluation import evaluate
from weightgen.evaluation.curves import few_shots
from weightgen.hypernets import SupportHNet
from weightgen.objectives import SupportSetLoss
from weightgen.shots import one_pass_weights
from weightgen.tasks import TaskBatchSampler


@dataclass
class Config(training.TrainConfig):
    dataset: str = training.MISSING  # Meta-VQA folder
    start: str = training.MISSING  # run of train_hypernet with SharedWeights, to begin at
    features: str | None = None  # name of the features, where the data set has several
    hypernet: dict[str, Any] = field(default_factory=dict)  # arguments of SupportHNet
    max_shots: int = 12
    temperature: float = 10.0
    steps: int = 4000
    batch_size: int = 32
    lr: float = 2e-3
    max_grad_norm: float = 10.0
    ema_decay: float = 0.99
    validate_every: int = 100
    shots: list[int | None] = field(
        default_factory=lambda: [1, 2, 5, None]
    )  # examples of each class; null: all
    embed_draws: int = 4  # support sets of each training task, for the axes of the support embedding


def main(cfg: Config) -> None:
    run = training.start_run(cfg, reads=("dataset", "start"))
    where = {"features": cfg.features, "device": run.device}
    train, validation = load_tasks(cfg.dataset, "train", "validation", **where)
    network, shared = training.load_run(cfg.start, run.device)
    weights = shared(train.embeds[:1])[0]
    hypernet = SupportHNet.for_network(network, **cfg.hypernet).init_weights(weights).to(run.device)
    average = training.Average(hypernet, cfg.ema_decay, run.folder)
    writer: Any = average.module
    objective = SupportSetLoss(network, hypernet, cfg.max_shots, cfg.temperature)
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=cfg.lr, fused=True)
    objective, optimizer = training.prepare(run, objective, optimizer)

    def accuracy(shots: int | None) -> float:
        def written(batch: Any, rows: torch.Tensor) -> torch.Tensor:
            few = few_shots(batch, rows, shots, seed=0)
            return writer(few.support, few.context["answers"])

        return evaluate(network, validation, written).macro

    best = training.Best(run, writer)
    training.resume(run, optimizer, hypernet=hypernet, average=average, best=best)
    sampler = TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed)
    for step, rows in training.steps(run, sampler, train):
        loss = training.outcome(run, objective, train.batch(rows)).loss
        lr = training.learning_rate(cfg, step, warmup=20)
        training.update(run, optimizer, loss, hypernet.parameters(), lr=lr, max_grad_norm=cfg.max_grad_norm)
        average.update_parameters(hypernet)
        if training.due(step, cfg.validate_every, cfg.steps):
            writer.eval()
            by_shots = {"all" if shots is None else str(shots): accuracy(shots) for shots in cfg.shots}
            best.update(step + 1, fmean(by_shots.values()), by_shots=by_shots)
    facts = {**best.restore(), "steps": cfg.steps, "seed": cfg.seed}
    drawn = one_pass_weights(writer, train, cfg.embed_draws, max_shots=cfg.max_shots, seed=cfg.seed)
    writer.eval().fit(drawn.flatten(0, 1))
    training.save_run(run, facts, network=network.module, hypernet=writer)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
