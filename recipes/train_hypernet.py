"""Train a hypernetwork on the loss of its tasks: multitask, MAML, or conditioned on the question.

    accelerate launch recipes/train_hypernet.py dataset=runs/demo/photos/dataset output=runs/demo/multitask

| method                     | hypernet      | inner steps | configs/train_hypernet/   |
|----------------------------|---------------|-------------|---------------------------|
| Uncond. Multitask          | SharedWeights | none        | scenes.yaml               |
| MNet-MAML, MNet-FOMAML     | SharedWeights | on weights  | scenes_maml, _fomaml      |
| HNet-MAML, uncond. / cond. | HNet          | on latents  | scenes_[cond_]hnet_maml   |
| Cond. Multitask, FiLM      | HNet, FiLM    | none        | scenes_conditional, _film |

The state with the best validation accuracy is saved: 86 % for photos_conditional. 10 to 30 seconds each on 2 CPU cores.
Nava, Kobayashi et al., 2023: sections 3.1 and 5.2, table 3.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from weightgen import training
from weightgen.adaptation import fine_tune
from weightgen.evaluation import evaluate
from weightgen.hypernets import SharedWeights
from weightgen.objectives import AdaptationLoss
from weightgen.tasks import TaskBatchSampler, random_subset
from weightgen.weights import FunctionalNetwork


@dataclass
class Config(training.TrainConfig):
    dataset: str | None = None  # Meta-VQA folder
    tasks: dict[str, Any] | None = None  # class of your own tasks, in place of a data set (docs/extending.md)
    features: str | None = None  # name of the features, where the data set has several
    start: str | None = None  # an earlier run with SharedWeights, to begin at
    network: dict[str, Any] = training.spec("weightgen.networks.CLIPAdapter", hidden_dim=256)
    include: list[str] = field(
        default_factory=lambda: ["*"]
    )  # names of the network's parameters that are generated, such as out.*
    exclude: list[str] = field(
        default_factory=list
    )  # of those, names that are not; what is not generated is shared and frozen
    hypernet: dict[str, Any] = training.spec("weightgen.hypernets.SharedWeights")
    inner_variable: str = "weights"  # what inner steps change: weights, or the latents of an HNet
    min_inner_steps: int = 0  # the number is drawn for each task
    max_inner_steps: int = 0
    inner_lr: float = 0.01
    first_order: bool = False
    checkpoint_steps: bool = False  # second order with less memory, in about twice the time
    validate_inner_steps: int = 0
    question_fraction: float = 1.0  # of the training tasks, to learn from
    steps: int = 8400  # 300 epochs of 870 tasks in batches of 32
    batch_size: int = 32
    examples: int | None = None  # of each set of a task, drawn anew in every step; by default all
    lr: float = 1e-4
    max_grad_norm: float = 10.0
    validate_every: int = 100


def initial(cfg: Config, train: Any) -> tuple[FunctionalNetwork, Any]:
    """The base network and the hypernetwork, at the weights of an earlier run or at the network's own."""
    if cfg.start:
        network, shared = training.load_run(cfg.start, trust_remote_code=cfg.trust_remote_code)
        weights = shared(torch.zeros(1, train.embeds.shape[1]))[0]
    else:
        module = training.build_part(cfg, "network", **train.network_options)
        network = FunctionalNetwork(module, cfg.include, cfg.exclude)
        weights = network.initial_weights
    sizes = {"space": network.space, "input_dim": train.embeds.shape[1]}
    hypernet = training.build_part(cfg, "hypernet", **sizes).init_weights(weights)
    if not isinstance(hypernet, SharedWeights) and getattr(hypernet, "start", None) is None:
        train.check_questions()
    return network.to(train.device), hypernet.to(train.device).fit(train.embeds)


def main(cfg: Config) -> None:
    run = training.start_run(cfg, reads=("dataset", "start"))
    train, validation = training.open_tasks(cfg, run.device, "train", "validation")
    train = train.subset(random_subset(len(train), cfg.question_fraction, cfg.seed))
    network, hypernet = initial(cfg, train)
    inner = {
        "inner_variable": cfg.inner_variable,
        "first_order": cfg.first_order,
        "checkpoint_steps": cfg.checkpoint_steps,
    }
    numbers = (cfg.min_inner_steps, cfg.max_inner_steps, cfg.inner_lr)
    objective = AdaptationLoss(network, hypernet, *numbers, **inner)
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=cfg.lr, fused=True)
    objective, optimizer = training.prepare(run, objective, optimizer)

    def validate() -> float:
        hypernet.eval()
        how = {"steps": cfg.validate_inner_steps, "lr": cfg.inner_lr, "inner_variable": cfg.inner_variable}
        scores = evaluate(network, validation, lambda batch, _: fine_tune(network, hypernet, batch, **how))
        hypernet.train()
        return scores.macro

    best = training.Best(run, hypernet, validate())
    training.resume(run, optimizer, hypernet=hypernet, best=best)
    sampler = TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed)
    for step, rows in training.steps(run, sampler, train):
        loss = training.outcome(run, objective, train.batch(rows, cfg.examples)).loss
        lr = training.learning_rate(cfg, step, warmup=20)
        training.update(run, optimizer, loss, hypernet.parameters(), lr=lr, max_grad_norm=cfg.max_grad_norm)
        if training.due(step, cfg.validate_every, cfg.steps):
            best.update(step + 1, validate())
    facts = {**best.restore(), "steps": cfg.steps, "seed": cfg.seed}
    training.save_run(run, facts, network=network.module, hypernet=hypernet)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
