"""Train a hypernetwork by the loss of the tasks: multitask, MAML, or conditioned on the question.

    accelerate launch recipes/train_hypernet.py dataset=runs/demo/scenes/dataset output=runs/demo/multitask

Without inner steps and with `SharedWeights` (the default) this is unconditional multitask training; with inner steps MNet-MAML
(`configs/train_hypernet/scenes_maml.yaml`); with an `HNet` on the question Cond. Multitask (`…/scenes_conditional.yaml`). With
`point=latents` the inner steps adapt the latent of an `HNet`: HNet-MAML (`…/scenes_hnet_maml.yaml`, `…/scenes_cond_hnet_maml.yaml`).
The state with the best validation accuracy is kept. Paper: sections 3.1 and 5.2, table 3. About 10 to 30 seconds each on 2 CPU cores.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import MISSING
from torch import Tensor
from tqdm import tqdm

from weightgen.adaptation import adapt, initial_points
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import evaluate
from weightgen.hypernets import SharedWeights
from weightgen.networks import CLIPAdapter
from weightgen.objectives import AdaptationLoss
from weightgen.storage.files import check_new, write_json, written_beside
from weightgen.storage.hub import class_path, load_part
from weightgen.tasks import TaskBatch, TaskBatchSampler, random_subset
from weightgen.training.config import build, parse
from weightgen.training.loop import check_finite, rows_of_process, seed_step, set_lr, warmup_cosine
from weightgen.weights import WeightSpace


@dataclass
class Config:
    dataset: str = MISSING
    output: str = MISSING  # folder to make: network/, hypernet/, training.json
    features: str | None = None  # name of the features, where the data set has several
    start: str | None = None  # an earlier output with SharedWeights, to begin at
    network: dict[str, Any] = field(
        default_factory=lambda: {"_component_": "weightgen.networks.CLIPAdapter", "hidden_dim": 256}
    )
    hypernet: dict[str, Any] = field(
        default_factory=lambda: {"_component_": "weightgen.hypernets.SharedWeights"}
    )
    min_steps: int = 0  # inner gradient steps, drawn for each task
    max_steps: int = 0
    inner_lr: float = 0.01
    first_order: bool = False
    checkpoint_steps: bool = False  # less memory in second order, for about twice the time
    point: str = "weights"  # what inner steps adapt: weights, or the latents of an HNet
    validate_at: int = 0  # inner steps in validation
    steps: int = 8400  # of the outer loop; 300 epochs of 870 tasks in batches of 32
    batch_size: int = 32
    lr: float = 1e-4
    max_grad_norm: float = 10.0
    validate_every: int = 100
    questions: float = 1.0  # share of the training tasks to learn from: for conditional methods, those whose question is known
    seed: int = 0


def starting_point(cfg: Config, train: MetaVQATasks) -> tuple[torch.nn.Module, Any]:
    """The base network, and the hypernetwork at the weights of `start` or at the base network's own."""
    dim = train.batch([0]).embeds.shape[-1]
    if cfg.start:
        network = load_part(CLIPAdapter, Path(cfg.start) / "network")
        weights = load_part(SharedWeights, Path(cfg.start) / "hypernet").weights.detach()
    else:
        network = build(cfg.network, embed_dim=train.batch([0]).support.inputs.shape[-1])
        weights = WeightSpace.of(network).flatten(dict(network.named_parameters())).detach()
    unconditional = cfg.hypernet["_component_"].endswith("SharedWeights") or cfg.hypernet.get("learned_start")
    extra = {} if unconditional else {"input_dim": dim}
    hypernet = build(cfg.hypernet, space=WeightSpace.of(network), **extra).init_weights(weights)
    if not unconditional:
        train.check_questions()
        hypernet.condition.fit(train.batch().embeds)
    return network, hypernet


def main(cfg: Config) -> None:
    check_new(cfg.output)
    accelerator = Accelerator()
    set_seed(cfg.seed)
    splits = load_meta_vqa(cfg.dataset)
    splits["train"] = splits["train"].select(random_subset(len(splits["train"]), cfg.questions, cfg.seed))
    store = find_features(cfg.dataset, cfg.features)
    train, validation = (
        MetaVQATasks(splits[name], store, accelerator.device) for name in ("train", "validation")
    )
    network, hypernet = starting_point(cfg, train)
    network.to(accelerator.device)
    objective = AdaptationLoss(
        network, hypernet, cfg.min_steps, cfg.max_steps, cfg.inner_lr, cfg.first_order,
        point=cfg.point, checkpoint_steps=cfg.checkpoint_steps,
    )  # fmt: skip
    optimizer = torch.optim.Adam(hypernet.parameters(), lr=cfg.lr)
    objective, optimizer = accelerator.prepare(objective, optimizer)

    def fine_tuned(batch: TaskBatch) -> Tensor:
        point, decode = initial_points(hypernet, batch.embeds, cfg.point)
        reached = adapt(
            hypernet.space, network, point, batch.support, batch.context,
            steps=cfg.validate_at, lr=cfg.inner_lr, decode=decode,
        )  # fmt: skip
        if not reached.isfinite().all():
            raise InputError(
                f"adaptation with {cfg.validate_at} steps of {cfg.inner_lr} diverged: write a smaller inner_lr"
            )
        return reached if decode is None else decode(reached)

    def validate() -> float:
        hypernet.eval()
        score = evaluate(hypernet.space, network, validation, lambda batch, _: fine_tuned(batch))
        hypernet.train()
        return score.macro

    best = {"step": 0, "validation_accuracy": validate()}
    kept = copy.deepcopy(hypernet.state_dict())
    sampler = TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed)
    bar = tqdm(sampler, desc=f"training {Path(cfg.output).name}", disable=not accelerator.is_main_process)
    for step, rows in enumerate(bar):
        seed_step(cfg.seed, step, accelerator.process_index)
        outcome = objective(
            train.batch(rows_of_process(rows, accelerator.process_index, accelerator.num_processes))
        )
        check_finite(outcome.loss, step, "task loss")
        set_lr(optimizer, cfg.lr * warmup_cosine(step, cfg.steps, 20))
        optimizer.zero_grad()
        accelerator.backward(outcome.loss)
        accelerator.clip_grad_norm_(hypernet.parameters(), cfg.max_grad_norm)
        optimizer.step()
        if (step + 1) % cfg.validate_every == 0 or step + 1 == cfg.steps:
            accuracy = validate()
            bar.set_postfix(loss=f"{outcome.loss.item():.3f}", validation=f"{accuracy:.3f}")
            if accuracy > best["validation_accuracy"]:
                best = {"step": step + 1, "validation_accuracy": accuracy}
                kept = copy.deepcopy(hypernet.state_dict())
    hypernet.load_state_dict(kept)
    if accelerator.is_main_process:
        with written_beside(cfg.output) as folder:
            network.save_pretrained(folder / "network")
            hypernet.save_pretrained(folder / "hypernet")
            write_json(
                folder / "training.json",
                {**best, "steps": cfg.steps, "seed": cfg.seed, "hypernet": class_path(hypernet)},
            )
        print(f"{cfg.output}: validation accuracy {best['validation_accuracy']:.3f} at step {best['step']}")


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
