"""Train a HyperTransformer, which writes a CNN from a support set in one pass, on few-shot episodes of images.

    accelerate launch recipes/train_hypertransformer.py \
        --config recipes/configs/train_hypertransformer/omniglot_1shot_8ch.yaml data=runs/omniglot output=runs/1shot_8ch

After a warm-up the learning rate is constant, and falls linearly over the last `decay_steps`, or all; so a run, finished or not,
can go on to another number of steps: the same command with `steps=…`. Saves the exponential moving average, and one line
per validation in metrics.jsonl. Zhmoginov et al., 2022: section 5 (results/omniglot has what to expect).
About 15 ms per episode and CPU thread (8 channels, 1-shot).
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from weightgen import InputError, training
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.hypernets.support_writer import SupportWriter, check_support
from weightgen.objectives.episodic import EpisodicLoss, annealed, episode_accuracies


@dataclass
class Config(training.TrainConfig):
    data: str = training.MISSING  # folder of few-shot images, from a data/*/prepare.py
    start: str | None = None  # an earlier run with the same model, to begin at
    train_splits: list[str] = field(default_factory=lambda: ["train"])
    validation_split: str = "validation"
    network: dict[str, Any] = training.spec("weightgen.networks.ConvNet")
    hypernet: dict[str, Any] = training.spec("weightgen.hypernets.HyperTransformer")
    ways: int = 20
    shots: int = 1
    queries: int = 3
    unlabeled: int = 0
    min_shots: int | None = None  # for unbalanced support sets
    rotate: bool = True
    mirror: bool = False  # not in the paper: more classes from the same images
    alike: bool = False  # not in the paper: all classes of an episode turned together
    groups: int | None = None  # not in the paper: the classes of an episode come from so many alphabets
    augment: dict[str, Any] | None = None  # class of changes of the training photos
    overlap: bool = False  # support and query sets may overlap, as in the released code
    mean: float = 128.0  # pixels are (value - mean) / std
    std: float = 128.0
    hide: float = 0.0  # probability at the start that an unlabelled sample is hidden; falls to 0
    hide_steps: int = 0  # when it is 0
    transductive: bool = True  # batch norms use statistics of the query set, as in the paper
    steps: int = 100_000
    batch_size: int = 8  # episodes in a step
    lr: float = 1e-3  # long runs have diverged at it, see results/omniglot
    beta2: float = 0.999  # of Adam
    warmup: int = 200
    decay_steps: int = 20_000
    max_grad_norm: float = 10.0
    ema_decay: float = 0.99  # 0.999 is far worse while the learning rate is high
    validate_every: int = 1000
    validation_episodes: int = 200
    validation_queries: int = 5


def new_model(cfg: Config, arrays: FewShotArrays) -> Any:
    """An untrained model, or that of `start`, which must be the same."""
    shape = {"image_size": arrays.images.shape[1], "image_channels": arrays.images.shape[3]}
    network = training.build_part(cfg, "network", num_classes=cfg.ways, **shape)
    if cfg.start is None:
        return training.build_part(cfg, "hypernet", network=network)
    model = training.load_module(cfg.start, "hypernet", kind=SupportWriter).requires_grad_(True).train()
    before, now = training.read_facts(cfg.start)["settings"], asdict(cfg)
    old, new = ({"mean": one["mean"], "std": one["std"], **one["hypernet"]} for one in (before, now))
    training.check_same(cfg.start, old | model.network.settings, new | network.settings)
    return model


def main(cfg: Config) -> None:
    training.keep_memory()  # or a sixth of the time goes into fresh pages
    if cfg.hide and not (cfg.hide_steps > 0 and cfg.unlabeled):
        raise InputError("hide needs unlabelled samples and an end: write unlabeled and hide_steps")
    may_change = ("steps", "lr", "beta2", "warmup", "decay_steps", "hide", "hide_steps", "validate_every")
    run = training.start_run(cfg, reads=("data", "start"), may_change=may_change)
    arrays = FewShotArrays(cfg.data)
    common = training.pick(cfg, "ways", "shots", "unlabeled", "mean", "std", "batch_size")
    how = training.pick(cfg, "queries", "rotate", "mirror", "alike", "overlap", "min_shots", "groups")
    how |= {
        "seed": 2 * cfg.seed * 4096,
        "augment": None if cfg.augment is None else training.build_part(cfg, "augment"),
    }
    train = Episodes(arrays, arrays.classes(*cfg.train_splits), **common, **how)
    how = {"queries": cfg.validation_queries, "seed": 2 * cfg.seed + 1}
    validation = Episodes(arrays, arrays.classes(cfg.validation_split), **common, **how)
    hypernet = new_model(cfg, arrays).to(run.device)
    check_support(train.batch(0, run.device).support, hypernet.network)
    average = training.Average(hypernet, cfg.ema_decay, run.folder)
    objective, judged = (EpisodicLoss(model, cfg.transductive) for model in (hypernet, average.module))
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=cfg.lr, betas=(0.9, cfg.beta2), fused=True)
    prepared, optimizer = training.prepare(run, objective, optimizer)
    facts = {"settings": asdict(cfg), "step": cfg.steps}
    means = training.Mean(["loss", "accuracy"], run.device)  # since the last line of the log
    training.resume(run, optimizer, hypernet=hypernet, average=average, means=means)
    for step in training.step_numbers(run, cfg.steps):
        objective.hide = annealed(step, cfg.hide, cfg.hide_steps)
        loss, metrics = training.outcome(run, prepared, train.batch(step, run.device))
        factor = min(1, (step + 1) / cfg.warmup, (cfg.steps - step) / min(cfg.decay_steps, cfg.steps))
        lr = training.learning_rate(cfg, step, cfg.warmup, factor)
        training.update(run, optimizer, loss, hypernet.parameters(), lr=lr, max_grad_norm=cfg.max_grad_norm)
        average.update_parameters(hypernet)
        means.update(metrics)
        if training.due(step, cfg.validate_every, cfg.steps):
            score = episode_accuracies(judged, validation, cfg.validation_episodes).mean().item()
            row = {"episodes": (step + 1) * cfg.batch_size, **means.take(), "validation_accuracy": score}
            training.log_metrics(run, step + 1, row)
            training.snapshot(run, facts | {"step": step + 1}, hypernet=average.module)
    training.save_run(run, facts, go_on=True, hypernet=average.module)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
