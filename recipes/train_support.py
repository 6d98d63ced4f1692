r"""Train a SupportHNet: adapter weights from a few labelled examples, in one pass.

    accelerate launch recipes/train_support.py --config recipes/configs/train_support/scenes.yaml \
        dataset=runs/demo/scenes/dataset start=runs/demo/multitask output=runs/demo/support

Support sets of all sizes are drawn anew from the training tasks in every step. What is kept is the moving average with the best accuracy
on validation tasks, mean over `shots`. A run that was stopped goes on from the last validation when it is started again with the same
settings. After HyperTransformer (arXiv 2201.04182). About 3 minutes on one CPU thread.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import MISSING
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from weightgen.adaptation import one_pass_weights
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.curves import ALL, one_pass_curve
from weightgen.hypernets import SharedWeights
from weightgen.hypernets.support_hnet import writer_for
from weightgen.networks import CLIPAdapter
from weightgen.objectives import SupportSetLoss
from weightgen.storage.files import write_json, written_beside
from weightgen.storage.hub import class_path, load_part
from weightgen.tasks import TaskBatchSampler
from weightgen.training.checkpoint import load_checkpoint, save_checkpoint
from weightgen.training.config import parse
from weightgen.training.loop import check_finite, ema, rows_of_process, seed_step, set_lr, warmup_cosine


@dataclass
class Config:
    dataset: str = MISSING
    start: str = MISSING  # output of train_hypernet with SharedWeights, to begin at
    output: str = MISSING  # folder to make: network/, hypernet/, training.json
    features: str | None = None
    hypernet: dict[str, Any] = field(default_factory=dict)  # arguments of SupportHNet
    max_shots: int = 12
    temperature: float = 10.0
    steps: int = 4000
    batch_size: int = 32
    lr: float = 2e-3
    max_grad_norm: float = 10.0
    ema_decay: float = 0.99
    validate_every: int = 100
    shots: list[int] = field(default_factory=lambda: [1, 2, 5, 0])  # examples of each class; 0: all
    embed_draws: int = (
        4  # support sets of each training task that the axes of the support embedding come from
    )
    seed: int = 0


def resumed(path: Path, cfg: Config, modules: dict[str, nn.Module], optimizer: Optimizer) -> dict[str, Any]:
    """Put back what an unfinished run has left in `path`: the steps done and the best score so far.

    Raises:
        InputError: it had other settings.
    """
    if not path.is_file():
        return {"done": 0, "step": 0, "validation_accuracy": 0.0}
    done, extra = load_checkpoint(path, modules, optimizer)
    if extra["settings"] != asdict(cfg):
        raise InputError(
            f"{path} is of an unfinished run with other settings: remove it, or use those settings again"
        )
    return {"done": done, **extra["best"]}


def main(cfg: Config) -> None:
    if Path(cfg.output).exists():
        raise InputError(f"{cfg.output} exists already: remove it or choose another place to write to")
    accelerator = Accelerator()
    set_seed(cfg.seed)
    splits = load_meta_vqa(cfg.dataset)
    store = find_features(cfg.dataset, cfg.features)
    train, validation = (
        MetaVQATasks(splits[name], store, accelerator.device) for name in ("train", "validation")
    )
    network = load_part(CLIPAdapter, Path(cfg.start) / "network").to(accelerator.device)
    weights = load_part(SharedWeights, Path(cfg.start) / "hypernet").weights.detach()
    hypernet = writer_for(network, **cfg.hypernet).init_weights(weights).to(accelerator.device)
    average = ema(hypernet, cfg.ema_decay)
    kept = ema(hypernet)
    objective = SupportSetLoss(network, hypernet, cfg.max_shots, cfg.temperature)
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=cfg.lr)
    modules = {"hypernet": hypernet, "average": average, "kept": kept}
    unfinished = Path(f"{cfg.output}.checkpoint.safetensors")
    best = resumed(unfinished, cfg, modules, optimizer)
    done = best.pop("done")
    objective, optimizer = accelerator.prepare(objective, optimizer)

    def validate() -> dict[int, float]:
        judged = average.module.eval()
        curve = one_pass_curve(network, validation, judged, [count or ALL for count in cfg.shots])
        return {shots: scores.macro for shots, scores in zip(cfg.shots, curve.values(), strict=True)}

    sampler = TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed, start_step=done)
    bar = tqdm(sampler, desc=f"training {Path(cfg.output).name}", disable=not accelerator.is_main_process)
    for step, rows in enumerate(bar, start=done):
        seed_step(cfg.seed, step, accelerator.process_index)
        outcome = objective(
            train.batch(rows_of_process(rows, accelerator.process_index, accelerator.num_processes))
        )
        check_finite(outcome.loss, step, "query loss")
        set_lr(optimizer, cfg.lr * warmup_cosine(step, cfg.steps, 20))
        optimizer.zero_grad()
        accelerator.backward(outcome.loss)
        accelerator.clip_grad_norm_(hypernet.parameters(), cfg.max_grad_norm)
        optimizer.step()
        average.update_parameters(hypernet)
        if (step + 1) % cfg.validate_every == 0 or step + 1 == cfg.steps:
            scores = validate()
            accuracy = fmean(scores.values())
            bar.set_postfix(loss=f"{outcome.loss.item():.3f}", validation=f"{accuracy:.3f}")
            if accuracy > best["validation_accuracy"]:
                best = {"step": step + 1, "validation_accuracy": accuracy, "by_shots": scores}
                kept.load_state_dict(average.state_dict())
            if accelerator.is_main_process:
                extra = {"best": best, "settings": asdict(cfg)}
                save_checkpoint(unfinished, modules, optimizer, step + 1, extra)
    final: Any = kept.module.eval()
    drawn = one_pass_weights(final, train, cfg.embed_draws, max_shots=cfg.max_shots, seed=cfg.seed)
    final.fit(drawn.flatten(0, 1))
    if accelerator.is_main_process:
        with written_beside(cfg.output) as folder:
            network.save_pretrained(folder / "network")
            final.save_pretrained(folder / "hypernet")
            facts = {**best, "steps": cfg.steps, "seed": cfg.seed, "hypernet": class_path(final)}
            write_json(folder / "training.json", facts)
        unfinished.unlink(missing_ok=True)
        print(f"{cfg.output}: validation accuracy {best['validation_accuracy']:.3f} at step {best['step']}")


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
