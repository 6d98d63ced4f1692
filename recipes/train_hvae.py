"""Train the HVAE on adapted weights.

    accelerate launch recipes/train_hvae.py dataset=runs/demo/scenes/dataset adapted=runs/demo/adapted output=runs/demo/hvae

The state with the best validation accuracy is kept: accuracy, on validation tasks, of their adapted weights after a pass through the
autoencoder. Latents whose spread is far from that of the prior, 1, are warned of: they are the sign of a blown-up autoencoder, whose
latents no diffusion model learns. Paper: section 3.2, appendix A.3 (2000 epochs, batch 32, Adam at 1e-4, gradient norm 1000).
"""

import copy
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import MISSING
from torch.distributions import Normal
from tqdm import tqdm

from weightgen.adaptation import adapt
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import evaluate
from weightgen.hypernets import SharedWeights
from weightgen.networks import CLIPAdapter
from weightgen.objectives import ELBOLoss
from weightgen.storage.files import check_new, read_json, read_tensors, write_json, written_beside
from weightgen.storage.hub import load_part
from weightgen.tasks import TaskBatchSampler
from weightgen.training.config import build, parse
from weightgen.training.loop import check_finite, rows_of_process, seed_step, set_lr, warmup_cosine


@dataclass
class Config:
    dataset: str = MISSING
    adapted: str = MISSING  # output of adapt_tasks
    output: str = MISSING  # folder to make: network/, hypernet/, training.json
    features: str | None = None
    hypernet: dict[str, Any] = field(default_factory=lambda: {"_component_": "weightgen.hypernets.HVAE"})
    kl_weight: float = 1.0
    function_weight: float = 0.0
    steps: int = 56_000  # 2000 epochs of 870 tasks in batches of 32
    batch_size: int = 32
    lr: float = 1e-4
    max_grad_norm: float = 1000.0
    validate_every: int = 200
    seed: int = 0


FAR = 3.0  # a latent dimension that spreads this much more, or less, than the prior is worth a warning


def latent_spread(posterior: Normal) -> torch.Tensor:
    """Standard deviation of each latent dimension over the posteriors (M, Z) of M weight vectors together, with shape (Z,)."""
    return (posterior.mean.var(dim=0, correction=0) + posterior.variance.mean(dim=0)).sqrt()


def warning_of(spread: torch.Tensor) -> str | None:
    """What to say of latents that spread (Z,), if they are far from the prior."""
    far = int(((spread > FAR) | (spread < 1 / FAR) | ~spread.isfinite()).sum())
    if not far:
        return None
    return (
        f"warning: {far} of {len(spread)} latent dimensions have a standard deviation far from 1 (from {spread.min():.2g} to "
        f"{spread.max():.2g}): the autoencoder has left its prior; try a larger kl_weight or a smaller lr"
    )


def main(cfg: Config) -> None:
    check_new(cfg.output)
    accelerator = Accelerator()
    set_seed(cfg.seed)
    splits = load_meta_vqa(cfg.dataset)
    store = find_features(cfg.dataset, cfg.features)
    train, validation = (
        MetaVQATasks(splits[name], store, accelerator.device) for name in ("train", "validation")
    )
    facts = read_json(Path(cfg.adapted) / "adapted.json")
    tensors = read_tensors(Path(cfg.adapted) / "adapted.safetensors")
    if "weights" not in tensors:
        raise InputError(f"{cfg.adapted} has no weights: run adapt_tasks with keep_weights=true")
    adapted = tensors["weights"].to(accelerator.device)
    network = load_part(CLIPAdapter, Path(cfg.adapted) / "network").to(accelerator.device)
    shared = (
        load_part(SharedWeights, Path(cfg.adapted) / "hypernet").to(accelerator.device).requires_grad_(False)
    )
    space = shared.space
    hvae = build(cfg.hypernet, space=space).to(accelerator.device).fit(adapted.flatten(0, 1))
    objective = ELBOLoss(hvae, network, cfg.kl_weight, cfg.function_weight)
    optimizer = torch.optim.Adam(hvae.parameters(), lr=cfg.lr)
    objective, optimizer = accelerator.prepare(objective, optimizer)

    everything = validation.batch()
    if "validation" in tensors:  # written in one pass
        targets = tensors["validation"].to(accelerator.device)
    else:
        targets = adapt(
            space, network, shared(everything.embeds), everything.support, everything.context,
            steps=facts["steps"], lr=facts["lr"],
        )  # fmt: skip
    if not targets.isfinite().all():
        raise InputError(
            f"adaptation of validation tasks with {facts['steps']} steps of {facts['lr']} diverged: run adapt_tasks with smaller lrs"
        )

    @torch.no_grad()
    def spread() -> torch.Tensor:
        return latent_spread(hvae.encode(adapted[0]))

    @torch.no_grad()
    def validate() -> float:
        decoded = hvae(hvae.encode(targets).mean)
        return evaluate(space, network, validation, lambda _, rows: decoded[rows]).macro

    best = {"step": 0, "validation_accuracy": validate()}
    before = evaluate(space, network, validation, lambda _, rows: targets[rows]).macro
    kept = copy.deepcopy(hvae.state_dict())
    warned = None
    sampler = TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed)
    bar = tqdm(sampler, desc="training HVAE", disable=not accelerator.is_main_process)
    for step, batch in enumerate(bar):
        seed_step(cfg.seed, step, accelerator.process_index)
        rows = torch.tensor(rows_of_process(batch, accelerator.process_index, accelerator.num_processes))
        draws = torch.randint(len(adapted), rows.shape)
        outcome = objective((adapted[draws, rows], train.batch(rows)))
        check_finite(outcome.loss, step, "ELBOLoss")
        set_lr(optimizer, cfg.lr * warmup_cosine(step, cfg.steps, 20))
        optimizer.zero_grad()
        accelerator.backward(outcome.loss)
        accelerator.clip_grad_norm_(hvae.parameters(), cfg.max_grad_norm)
        optimizer.step()
        if (step + 1) % cfg.validate_every == 0 or step + 1 == cfg.steps:
            accuracy = validate()
            if warned is None and (warned := warning_of(spread())) and accelerator.is_main_process:
                print(f"\n{warned}", file=sys.stderr)
            shown = {name: f"{value.item():.3f}" for name, value in outcome.metrics.items()}
            bar.set_postfix(**shown, validation=f"{accuracy:.3f}")
            if accuracy > best["validation_accuracy"]:
                best = {"step": step + 1, "validation_accuracy": accuracy}
                kept = copy.deepcopy(hvae.state_dict())
    hvae.load_state_dict(kept)
    if accelerator.is_main_process:
        spreads = [value.item() for value in spread().aminmax()]
        facts = {
            **best,
            "adapted_accuracy": before,
            "latent_spread": spreads,
            "steps": cfg.steps,
            "seed": cfg.seed,
        }
        with written_beside(cfg.output) as folder:
            network.save_pretrained(folder / "network")
            hvae.save_pretrained(folder / "hypernet")
            write_json(folder / "training.json", facts)
        print(
            f"{cfg.output}: adapted validation weights score {before:.3f}, after the autoencoder "
            f"{best['validation_accuracy']:.3f} (step {best['step']})"
        )


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
