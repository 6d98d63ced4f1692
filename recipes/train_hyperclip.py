"""Train HyperCLIP on adapted weights and their questions; infer tasks with it.

    accelerate launch recipes/train_hyperclip.py --config recipes/configs/train_hyperclip/scenes.yaml dataset=... adapted=... output=...

Writes encoder/ and training.json, with how often the right question is ranked first, or among the first ten, of all questions of the
held-out tasks, given the weights adapted to one of them. Paper: section 4.1, algorithm 9, appendix A.6.2.
"""

import copy
from dataclasses import asdict, dataclass, field
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
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import InputError, one_line_errors
from weightgen.hypernets import HVAE, SupportHNet
from weightgen.hypernets.saving import load_hypernet
from weightgen.networks import CLIPAdapter
from weightgen.objectives import ContrastiveLoss
from weightgen.storage.files import check_new, read_json, read_tensors, write_json, written_beside
from weightgen.storage.hub import load_part
from weightgen.tasks import random_subset
from weightgen.training.config import build, parse
from weightgen.training.loop import check_finite, seed_step, set_lr, warmup_cosine


@dataclass
class Config:
    dataset: str = MISSING
    adapted: str = MISSING  # output of adapt_tasks
    output: str = MISSING  # folder to make
    features: str | None = None
    hvae: str | None = (
        None  # an output of train_hvae: see weights as it decodes them, which is what guidance will show HyperCLIP
    )
    encoder: dict[str, Any] = field(
        default_factory=lambda: {"_component_": "weightgen.encoders.hyperclip.HyperCLIP"}
    )
    logit_scale: float = 100.0
    halved: bool = True
    steps: int = 8400  # 600 epochs of 870 tasks in batches of 64
    batch_size: int = 64
    lr: float = 3e-4
    validate_every: int = 200
    questions: float = 1.0  # share of the training tasks whose question is known
    seed: int = 0


def inference(encoder: HyperCLIP, weights: Tensor, embeds: Tensor) -> dict[str, float]:
    """How often the question of weights (B, P) is the first, or among the first ten, of B candidates; and chance."""
    ranks = (-encoder.similarity(weights, embeds)).argsort(dim=1).argsort(dim=1).diagonal()
    count = len(embeds)
    return {"top_1": (ranks < 1).float().mean().item(), "top_10": (ranks < 10).float().mean().item(),
            "candidates": count, "chance_top_1": 1 / count, "chance_top_10": min(10 / count, 1.0)}  # fmt: skip


class Held:
    """Questions of held-out tasks, and the weights adapted to them in the way that `adapted` was: by gradient steps, or in one pass."""

    def __init__(self, cfg: Config, tasks: MetaVQATasks) -> None:
        folder = Path(cfg.adapted)
        facts, batch = read_json(folder / "adapted.json"), tasks.batch()
        self.embeds = batch.embeds
        if (folder / "support").is_dir():
            writer = load_part(SupportHNet, folder / "support").to(batch.embeds.device).requires_grad_(False)
            self.weights = writer(batch.support, batch.context["answers"])
            return
        network = load_part(CLIPAdapter, folder / "network").to(batch.embeds.device)
        hypernet = load_hypernet(folder, "adapted.json").to(batch.embeds.device).requires_grad_(False)
        start, decode = initial_points(hypernet, batch.embeds, facts.get("point", "weights"))
        found = adapt(
            hypernet.space, network, start, batch.support, batch.context,
            steps=facts["steps"], lr=facts["lr"], decode=decode,
        )  # fmt: skip
        self.weights = found if decode is None else decode(found)


def adapted_weights(cfg: Config) -> Tensor:
    """Adapted weights (R, T, P).

    Raises:
        InputError: only latents were kept.
    """
    tensors = read_tensors(Path(cfg.adapted) / "adapted.safetensors")
    if "weights" not in tensors:
        raise InputError(f"{cfg.adapted} has no weights: run adapt_tasks with keep_weights=true")
    return tensors["weights"]


def main(cfg: Config) -> None:
    check_new(cfg.output)
    accelerator = Accelerator()
    set_seed(cfg.seed)
    device = accelerator.device
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset, cfg.features)
    train = MetaVQATasks(splits["train"], store, device)
    train.check_questions()
    known = random_subset(len(train), cfg.questions, cfg.seed)
    embeds = train.batch().embeds[known]
    held = {name: Held(cfg, MetaVQATasks(splits[name], store, device)) for name in ("validation", "test")}
    adapted = adapted_weights(cfg)[:, known].to(device)
    hvae = load_part(HVAE, Path(cfg.hvae) / "hypernet").to(device).requires_grad_(False) if cfg.hvae else None

    @torch.no_grad()
    def seen(weights: Tensor) -> Tensor:
        return weights if hvae is None else hvae(hvae.encode(weights).mean)

    encoder = build(cfg.encoder, weights=adapted.shape[-1], embed_dim=embeds.shape[-1]).to(device)
    encoder.fit(seen(adapted.flatten(0, 1)), embeds)
    objective = ContrastiveLoss(encoder, cfg.logit_scale, cfg.halved)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=cfg.lr)
    objective, optimizer = accelerator.prepare(objective, optimizer)

    @torch.no_grad()
    def validate(name: str) -> dict[str, float]:
        encoder.eval()
        found = inference(encoder, seen(held[name].weights), held[name].embeds)
        encoder.train()
        return found

    best = {"step": 0, "top_10": -1.0}
    kept = copy.deepcopy(encoder.state_dict())
    bar = tqdm(range(cfg.steps), desc="training HyperCLIP", disable=not accelerator.is_main_process)
    for step in bar:
        seed_step(cfg.seed, step, accelerator.process_index)
        rows = torch.randperm(len(embeds), device=device)[: cfg.batch_size]  # no question twice in a batch
        draws = torch.randint(len(adapted), (len(rows),), device=device)
        outcome = objective((seen(adapted[draws, rows]), embeds[rows]))
        check_finite(outcome.loss, step, "contrastive loss")
        set_lr(optimizer, cfg.lr * warmup_cosine(step, cfg.steps, 50))
        optimizer.zero_grad()
        accelerator.backward(outcome.loss)
        optimizer.step()
        if (step + 1) % cfg.validate_every == 0 or step + 1 == cfg.steps:
            found = validate("validation")
            bar.set_postfix(loss=f"{outcome.loss.item():.3f}", top_10=f"{found['top_10']:.3f}")
            if found["top_10"] > best["top_10"]:
                best = {"step": step + 1, **found}
                kept = copy.deepcopy(encoder.state_dict())
    encoder.load_state_dict(kept)
    if accelerator.is_main_process:
        scores = {"validation": best, "test": validate("test")}
        with written_beside(cfg.output) as folder:
            folder.mkdir()
            encoder.save_pretrained(folder / "encoder")
            write_json(folder / "training.json", {**scores, "settings": asdict(cfg)})
        print(f"{cfg.output}: of {scores['test']['candidates']} test questions the right one is first for "
              f"{scores['test']['top_1']:.3f}, among ten for {scores['test']['top_10']:.3f}")  # fmt: skip


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
