r"""Fine-tune the base network on every training task, many times, each time on a random part of its examples.

    accelerate launch recipes/adapt_tasks.py dataset=runs/demo/scenes/dataset start=runs/demo/maml output=runs/demo/adapted

Writes `adapted.safetensors` (weights (R, T, P): R draws of T tasks), `adapted.json`, and what adaptation started from. The
number of steps and the step size are those with the best validation accuracy among the ones given that lower the loss. With
`point=latents` the latent of an `HNet` is adapted in place of the weights, and `latents` (R, T, Z) are written too. With `support`,
a SupportHNet writes the weights in one pass, in place of gradient steps (whose number and size are still chosen, for comparisons):
`validation` (V, P) holds those of the validation tasks, and the folder `support` the SupportHNet. Paper: 50 steps, appendix A.6 (0.01 for
MNet, 0.1 for HNet).
"""

import sys
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from omegaconf import MISSING
from torch import Tensor
from tqdm import tqdm

from weightgen.adaptation import adapt, check_point, initial_points
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import evaluate
from weightgen.hypernets import SupportHNet
from weightgen.hypernets.saving import load_hypernet
from weightgen.metrics import task_loss
from weightgen.networks import CLIPAdapter
from weightgen.shots import resplit
from weightgen.storage.files import check_new, write_json, write_tensors, written_beside
from weightgen.storage.hub import class_path, load_part
from weightgen.tasks import TaskBatch, batches
from weightgen.training.config import parse
from weightgen.training.loop import seed_step


@dataclass
class Config:
    dataset: str = MISSING
    start: str = MISSING  # output of train_hypernet
    output: str = MISSING  # folder to make
    support: str | None = None  # output of train_support, for weights in one pass
    features: str | None = None
    point: str = "weights"  # what is adapted: weights, or the latents of an HNet
    keep_weights: bool = True  # with latents: write the weights they give too, which HyperCLIP learns from
    draws: int = 8  # R; each sees a random two thirds to all of a task's examples, as the authors' code does
    steps: list[int] = field(default_factory=lambda: [50])  # tried on the validation tasks
    lrs: list[float] = field(default_factory=lambda: [0.01])
    batch_size: int = 32
    seed: int = 0


def main(cfg: Config) -> None:
    if cfg.support and cfg.point == "latents":
        raise InputError("a SupportHNet writes weights, no latents: leave out point=latents, or support")
    check_new(cfg.output)
    accelerator = Accelerator()
    set_seed(cfg.seed)
    splits = load_meta_vqa(cfg.dataset)
    store = find_features(cfg.dataset, cfg.features)
    train, validation = (
        MetaVQATasks(splits[name], store, accelerator.device) for name in ("train", "validation")
    )
    network = load_part(CLIPAdapter, Path(cfg.start) / "network").to(accelerator.device)
    hypernet = load_hypernet(cfg.start, "training.json").to(accelerator.device).requires_grad_(False)
    check_point(hypernet, cfg.point)
    space, latents = hypernet.space, cfg.point == "latents"
    writer = None
    if cfg.support:
        writer = load_part(SupportHNet, Path(cfg.support) / "hypernet").to(accelerator.device)
        writer.requires_grad_(False)
        if writer.space != space:
            raise InputError(f"{cfg.support} writes weights of another network than {cfg.start} has")

    def fine_tuned(batch: TaskBatch, steps: int, lr: float) -> Tensor:
        start, decode = initial_points(hypernet, batch.embeds, cfg.point)
        return adapt(space, network, start, batch.support, batch.context, steps=steps, lr=lr, decode=decode)

    def decoded(points: Tensor) -> Tensor:
        return hypernet(points) if latents else points

    few = validation.batch(range(min(len(validation), 32)))

    def support_loss(steps: int, lr: float) -> float:
        weights = decoded(fine_tuned(few, steps, lr))
        logits = space.call_batch(network, weights, few.support.inputs, **few.context)
        return task_loss(logits, few.support.labels).mean().item()

    tried: dict[tuple[int, float], float] = {}
    before = support_loss(0, 0.0)
    for steps, lr in product(cfg.steps, cfg.lrs):
        after = support_loss(steps, lr)
        if steps and lr and not after < before:  # so also for NaN
            print(
                f"{steps} steps of {lr} diverge: the loss goes from {before:.3g} to {after:.3g}",
                file=sys.stderr,
            )
            continue
        score = evaluate(space, network, validation, lambda b, _, k=steps, a=lr: decoded(fine_tuned(b, k, a)))
        tried[steps, lr] = score.macro
    if not tried:
        raise InputError(
            f"adaptation diverged with every step size, see above: give smaller ones than lrs={cfg.lrs}"
        )
    (steps, lr), accuracy = max(tried.items(), key=lambda item: item[1])

    points = torch.full((cfg.draws, len(train), hypernet.latent_dim if latents else space.size), float("nan"))
    jobs = list(product(range(cfg.draws), batches(train.sizes, cfg.batch_size)))
    mine = range(accelerator.process_index, len(jobs), accelerator.num_processes)
    found: list[tuple[int, Tensor]] = []
    for number in tqdm(mine, desc="adapting tasks", disable=not accelerator.is_main_process):
        _, rows = jobs[number]
        seed_step(cfg.seed, number)
        part = torch.rand(len(rows)) / 3 + 2 / 3
        batch = resplit(train.batch(rows), part.to(accelerator.device))
        adapted = (
            fine_tuned(batch, steps, lr)
            if writer is None
            else writer(batch.support, batch.context["answers"])
        )
        if not adapted.isfinite().all():
            raise InputError(
                f"adaptation with {steps} steps of {lr} diverged: give a smaller step size, lrs=[{lr / 3:.2g}]"
            )
        found.append((number, adapted.cpu()))
    for number, adapted in gather_object(found):
        draw, rows = jobs[number]
        points[draw, rows] = adapted
    tensors = {cfg.point: points}
    if writer is not None:
        everything = validation.batch()
        tensors["validation"] = writer(everything.support, everything.context["answers"])
        score = evaluate(space, network, validation, lambda _, rows: tensors["validation"][rows])
        accuracy = score.macro
    if accelerator.is_main_process:
        facts = {"steps": steps, "lr": lr, "draws": cfg.draws, "seed": cfg.seed, "validation_accuracy": accuracy,
                 "tried": [{"steps": s, "lr": a, "validation_accuracy": v} for (s, a), v in tried.items()],
                 "tasks": len(train), "weights": space.size, "start": cfg.start,
                 "point": cfg.point, "support": cfg.support, "hypernet": class_path(hypernet)}  # fmt: skip
        if latents and cfg.keep_weights:
            rows = points.to(accelerator.device)
            tensors["weights"] = torch.stack([decoded(draw).cpu() for draw in rows])
        with written_beside(cfg.output) as folder:
            folder.mkdir()
            write_tensors(folder / "adapted.safetensors", tensors)
            write_json(folder / "adapted.json", facts)
            network.save_pretrained(folder / "network")
            hypernet.save_pretrained(folder / "hypernet")
            if writer is not None:
                writer.save_pretrained(folder / "support")
        how = f"{steps} steps of {lr}" if writer is None else "one pass"
        print(f"{cfg.output}: {cfg.draws} x {len(train)} tasks, {how}, validation accuracy {accuracy:.3f}")


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
