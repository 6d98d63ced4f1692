"""Train the HVAE, an autoencoder of adapted weights whose latents HyperLDM learns.

    accelerate launch recipes/train_hvae.py dataset=runs/demo/photos/dataset adapted=runs/demo/adapted output=runs/demo/hvae

The state with the best validation accuracy is saved: that of adapted weights of validation tasks after a pass through
the autoencoder (on Photos 85 %, before the pass 87 %). 2 minutes on a CPU core.
Without `dataset`, `adapted` is any zoo of weights, such as `weightgen zoo import` makes: the state with the least error of held-out
weights is saved, or with the best `score` where that names a class, and each layer has a scale of its own.
Nava, Kobayashi et al., 2023: section 3.2, appendix A.3 (2000 epochs, batch 32, Adam at 1e-4, gradient norm 1000).
"""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributions import Normal

from weightgen import training
from weightgen.data.zoo.encoding import encode_rows
from weightgen.objectives import ELBOLoss
from weightgen.tasks import TaskBatchSampler


@dataclass
class Config(training.TrainConfig):
    dataset: str | None = None  # Meta-VQA folder; without it, losses are of weights alone
    tasks: dict[str, Any] | None = None  # class of your own tasks, in place of a data set
    adapted: str = training.MISSING  # run of adapt_tasks, or a zoo
    features: str | None = None  # name of the features, where the data set has several
    hypernet: dict[str, Any] = training.spec("weightgen.hypernets.HVAE")
    kl_weight: float = 1.0
    function_weight: float = 0.0  # of a loss on what the decoded weights do; 0 in the paper
    score: dict[str, Any] | None = None  # class of that loss, for a zoo without tasks
    steps: int = 56_000  # 2000 epochs of 870 tasks in batches of 32
    batch_size: int = 32
    examples: int | None = None  # of each set of a task, drawn anew in every step; by default all
    lr: float = 1e-4
    max_grad_norm: float = 1000.0
    validate_every: int = 200
    shard_above: int | None = None  # matrices with more numbers are sharded over the processes


FAR = 3.0  # a latent dimension whose deviation differs from the prior's by this factor is worth a warning


def latent_spread(posterior: Normal) -> torch.Tensor:
    """Standard deviation of each latent dimension over the posteriors (M, Z) of M weight vectors, with shape (Z,)."""
    return (posterior.mean.var(dim=0, correction=0) + posterior.variance.mean(dim=0)).sqrt()


def warning_of(spread: torch.Tensor) -> str | None:
    """A warning about the spread (Z,) of latents, if some of it is far from 1: no diffusion model learns such latents."""
    far = int(((spread > FAR) | (spread < 1 / FAR) | ~spread.isfinite()).sum())
    if not far:
        return None
    return (
        f"warning: {far} of {len(spread)} latent dimensions have a standard deviation far from 1 (from {spread.min():.2g} to "
        f"{spread.max():.2g}): the autoencoder has left its prior; try a larger kl_weight or a smaller lr"
    )


def main(cfg: Config) -> None:
    run = training.start_run(cfg, reads=("dataset", "adapted"))
    adapted, train, validation = training.load_source(cfg, run.device, "train", "validation")
    zoo, network = adapted.zoo, adapted.network
    hvae = training.build_part(cfg, "hypernet", space=network.space).to(run.device)
    hvae.fit(zoo.rows(), per_layer=not adapted.has_tasks)
    objective = ELBOLoss(hvae, network, cfg.kl_weight, cfg.function_weight, adapted.scorer)
    optimizer = torch.optim.Adam(hvae.parameters(), lr=cfg.lr, fused=True)
    objective, optimizer = training.prepare(run, objective, optimizer)
    targets = adapted.targets(validation)

    @torch.no_grad()
    def spread() -> torch.Tensor:
        return latent_spread(encode_rows(hvae, zoo.rows(draw=0)))

    @torch.no_grad()
    def validate() -> float:
        return adapted.score(hvae(hvae.encode(targets).mean), validation)

    before = adapted.score(targets, validation)
    best = training.Best(run, hvae, validate(), adapted.score_name)
    training.resume(run, optimizer, hvae=hvae, best=best)
    sampler = TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed)
    warned = None
    for step, batch in training.steps(run, sampler, train):
        rows = torch.tensor(batch)
        draws = torch.randint(zoo.shape[0], rows.shape)
        loss = training.outcome(run, objective, (zoo.at(draws, rows), train.batch(rows, cfg.examples))).loss
        lr = training.learning_rate(cfg, step, warmup=20)
        training.update(run, optimizer, loss, hvae.parameters(), lr=lr, max_grad_norm=cfg.max_grad_norm)
        if training.due(step, cfg.validate_every, cfg.steps):
            best.update(step + 1, validate())
            if warned is None and (warned := warning_of(spread())) and run.accelerator.is_main_process:
                print(f"\n{warned}", file=sys.stderr)
    facts = {
        **best.restore(),
        "adapted_accuracy" if adapted.has_tasks else "adapted_score": before,
        "steps": cfg.steps,
        "seed": cfg.seed,
    }
    facts["latent_spread"] = [value.item() for value in spread().aminmax()]
    training.save_run(run, facts, network=network.module, hypernet=hvae)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
