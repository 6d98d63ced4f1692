"""Train a HyperTransformer: a CNN from a support set in one pass, on few-shot episodes of images.

    accelerate launch recipes/train_hypertransformer.py --config recipes/configs/train_hypertransformer/omniglot_1shot_8ch.yaml \
        data=runs/omniglot output=runs/omniglot_1shot_8ch

After a warm-up the learning rate is constant, and falls in a straight line over the last `decay_steps`; so a run that was stopped can go
on to another number of steps (`resume=true steps=...`). `output` holds the exponential moving average (`hypernet/`, what one uses), all
else that changes (`checkpoint.safetensors`), and one line per validation (`metrics.jsonl`). Paper: Zhmoginov et al., 2022, section 5.

About 14 ms per episode and CPU thread (8 channels, 1-shot). On Linux, MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2000000000 in the
environment saves an eighth of it: the memory of large activations is then not fetched from the system anew in every step.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import MISSING
from tqdm import tqdm

from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.errors import InputError, one_line_errors
from weightgen.hypernets.support_writer import check_support
from weightgen.objectives.episodic import EpisodicLoss, annealed, episode_accuracies
from weightgen.storage.files import read_json, write_json, written_beside
from weightgen.storage.hub import load_part
from weightgen.training.checkpoint import load_checkpoint, log_metrics, save_checkpoint, trim_metrics
from weightgen.training.config import build, component, parse
from weightgen.training.loop import check_finite, ema, seed_step, set_lr


@dataclass
class Config:
    data: str = MISSING  # folder of few-shot images, from a data/*/prepare.py
    output: str = MISSING  # folder to make
    start: str | None = (
        None  # an earlier output whose model to begin at; other shots are fine, another model is not
    )
    train_splits: list[str] = field(default_factory=lambda: ["train"])
    validation_split: str = "validation"
    network: dict[str, Any] = field(default_factory=lambda: {"_component_": "weightgen.networks.ConvNet"})
    hypernet: dict[str, Any] = field(
        default_factory=lambda: {"_component_": "weightgen.hypernets.HyperTransformer"}
    )
    ways: int = 20
    shots: int = 1
    queries: int = 3
    unlabeled: int = 0
    least_shots: int | None = None  # unbalanced support sets
    rotate: bool = True
    mirror: bool = False  # beyond the paper: more classes out of the same images
    alike: bool = False  # beyond the paper: all classes of an episode turned together
    groups: int | None = None  # beyond the paper: classes of an episode from so many alphabets
    overlap: bool = False  # as the released code draws episodes
    mean: float = 128.0  # pixels are (value - mean) / std
    std: float = 128.0
    hide: float = 0.0  # probability at the start with which an unlabelled sample is hidden: 1 where nothing is known yet
    hide_steps: int = 0  # when hiding has ended
    transductive: bool = True
    steps: int = 100_000
    batch_size: int = 8  # episodes in a step and process
    lr: float = 1e-3  # not for long: runs have collapsed at it, see results/omniglot
    beta2: float = 0.999  # of Adam; the lower, the sooner its step sizes follow gradients that have grown
    warmup: int = 200
    decay_steps: int = 20_000
    max_grad_norm: float = 10.0
    ema_decay: float = 0.99  # 0.999 is far worse while the learning rate is high: the weights travel too far
    validate_every: int = 1000
    validation_episodes: int = 200
    validation_queries: int = 5
    resume: bool = False
    seed: int = 0


def episodes(cfg: Config, arrays: FewShotArrays, process: int) -> tuple[Episodes, Episodes]:
    """Episodes to train on, of one process, and to validate on."""
    common: dict[str, Any] = {"ways": cfg.ways, "shots": cfg.shots, "unlabeled": cfg.unlabeled,
                              "batch_size": cfg.batch_size, "mean": cfg.mean, "std": cfg.std}  # fmt: skip
    train = Episodes(
        arrays, arrays.classes(*cfg.train_splits), queries=cfg.queries, rotate=cfg.rotate, mirror=cfg.mirror,
        alike=cfg.alike, overlap=cfg.overlap, least_shots=cfg.least_shots,
        groups=cfg.groups, seed=2 * (cfg.seed * 4096 + process), **common,
    )  # fmt: skip
    classes = arrays.classes(cfg.validation_split)
    return train, Episodes(arrays, classes, queries=cfg.validation_queries, seed=2 * cfg.seed + 1, **common)


def check(cfg: Config) -> None:
    """Refuse settings that cannot be, or that would change nothing.

    Raises:
        InputError: naming them.
    """
    if min(cfg.steps, cfg.decay_steps, cfg.warmup, cfg.validate_every, cfg.validation_episodes) < 1:
        raise InputError(
            "expected steps, warmup, decay_steps, validate_every and validation_episodes from 1 up"
        )
    if not (0 <= cfg.beta2 < 1 and 0 <= cfg.ema_decay < 1 and cfg.max_grad_norm > 0 and cfg.lr > 0):
        raise InputError("expected beta2 and ema_decay in [0, 1), and lr and max_grad_norm above 0")
    if not 0 <= cfg.hide <= 1:
        raise InputError(f"expected hide in [0, 1], got {cfg.hide}")
    if cfg.hide and not (cfg.hide_steps > 0 and cfg.unlabeled):
        raise InputError(
            "hide needs unlabelled samples and a step when it ends: write unlabeled and hide_steps, or leave hide out"
        )


def check_resumed(output: Path, cfg: Config) -> None:
    """Refuse to go on with another model or other pixels than a run had so far.

    Raises:
        InputError: naming the first setting that differs.
    """
    before, now = read_json(output / "training.json"), asdict(cfg)
    for name in ("network", "hypernet", "ways", "mean", "std", "batch_size", "seed"):
        if before[name] != now[name]:
            raise InputError(
                f"{output} was trained with {name}={before[name]}, and cannot go on with {now[name]}"
            )


def new_model(cfg: Config, arrays: FewShotArrays) -> Any:
    """An untrained model, or that of `start`.

    Raises:
        InputError: `start` has another model than the settings say.
    """
    shape = {"image_size": arrays.images.shape[1], "image_channels": arrays.images.shape[3]}
    network = build(cfg.network, num_classes=cfg.ways, **shape)
    if not cfg.start:
        return build(cfg.hypernet, network=network)
    folder = Path(cfg.start) / "hypernet"
    hypernet = load_part(component(cfg.hypernet), folder).train()
    wanted = {name: value for name, value in cfg.hypernet.items() if name != "_component_"} | network.settings
    found = read_json(folder / "config.json") | hypernet.network.settings
    if differing := [name for name, value in wanted.items() if found.get(name) != value]:
        name = differing[0]
        raise InputError(
            f"the model of {cfg.start} has {name}={found.get(name)}, and the settings say {wanted[name]}"
        )
    return hypernet


def main(cfg: Config) -> None:
    check(cfg)
    accelerator = Accelerator()
    set_seed(cfg.seed)
    output, device = Path(cfg.output), accelerator.device
    if output.exists() and not cfg.resume:
        raise InputError(f"{output} exists already: write resume=true to go on, or choose another output")
    if cfg.resume:
        check_resumed(output, cfg)
    arrays = FewShotArrays(cfg.data)
    train, validation = episodes(cfg, arrays, accelerator.process_index)
    hypernet = new_model(cfg, arrays).to(device)
    check_support(train.batch(0, device).support, hypernet.network)
    average = ema(hypernet, cfg.ema_decay)
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=cfg.lr, betas=(0.9, cfg.beta2), fused=True)
    start = 0
    if cfg.resume:
        parts = {"hypernet": hypernet, "average": average}
        start, _ = load_checkpoint(output / "checkpoint.safetensors", parts, optimizer)
        if start >= cfg.steps:
            raise InputError(
                f"{output} has done {start} steps already: write more of them, steps={2 * start}"
            )
        for group in optimizer.param_groups:  # the checkpoint has its own
            group["betas"] = (0.9, cfg.beta2)
        if accelerator.is_main_process:
            trim_metrics(output / "metrics.jsonl", start)
    accelerator.wait_for_everyone()  # all have looked whether the output exists
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / ("training.json" if not start else f"training_from_{start}.json"), asdict(cfg))
    objective = EpisodicLoss(hypernet, cfg.transductive)
    judged = EpisodicLoss(average.module, cfg.transductive)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    totals = torch.zeros(3, device=device)  # loss, accuracy and steps since the last line of the log

    main_process = accelerator.is_main_process
    bar = tqdm(range(start, cfg.steps), initial=start, total=cfg.steps, disable=not main_process)
    for step in bar:
        seed_step(cfg.seed, step, accelerator.process_index)
        objective.hide = annealed(step, cfg.hide, cfg.hide_steps)
        outcome = prepared(train.batch(step, device))
        check_finite(outcome.loss, step, "episode loss")
        set_lr(optimizer, cfg.lr * min(1, (step + 1) / cfg.warmup, (cfg.steps - step) / cfg.decay_steps))
        optimizer.zero_grad()
        accelerator.backward(outcome.loss)
        accelerator.clip_grad_norm_(hypernet.parameters(), cfg.max_grad_norm)
        optimizer.step()
        average.update_parameters(hypernet)
        seen = [outcome.metrics["loss"], outcome.metrics["accuracy"], torch.ones_like(outcome.loss.detach())]
        totals += torch.stack(seen)
        done = step + 1
        if (done % cfg.validate_every == 0 or done == cfg.steps) and main_process:
            loss, accuracy, _ = (totals / totals[2]).tolist()
            score = episode_accuracies(judged, validation, cfg.validation_episodes).mean()
            count = done * cfg.batch_size * accelerator.num_processes
            row = {"episodes": count, "loss": loss, "accuracy": accuracy, "validation_accuracy": score}
            parts = {"hypernet": hypernet, "average": average}
            save_checkpoint(output / "checkpoint.safetensors", parts, optimizer, done)
            with written_beside(output / "hypernet", overwrite=True) as folder:
                average.module.save_pretrained(folder)
            log_metrics(output / "metrics.jsonl", done, row)
            bar.set_postfix(loss=f"{loss:.3f}", train=f"{accuracy:.3f}", validation=f"{score:.3f}")
        if done % cfg.validate_every == 0:
            totals.zero_()


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
