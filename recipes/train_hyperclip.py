"""Train HyperCLIP, which embeds weights where CLIP embeds the question of their task.

    accelerate launch recipes/train_hyperclip.py --config recipes/configs/train_hyperclip/scenes.yaml \
        dataset=runs/demo/photos/dataset adapted=runs/demo/adapted output=runs/demo/hyperclip

Writes encoder/ and training.json: how often the right question is ranked first, or among the first ten, of all questions
of the held-out tasks, given weights adapted to one of them. The state with the best top 10 on validation tasks is saved.
With `hvae`, HyperCLIP learns from weights as an HVAE decodes them, which is what guidance will show it. Without `dataset`, `adapted` is
any zoo of weights with texts.
A minute on 2 CPU cores. Nava, Kobayashi et al., 2023: section 4.1, algorithm 9, appendix A.6.2.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from weightgen import training
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.nn.large import Mapped
from weightgen.objectives import ContrastiveLoss
from weightgen.reports.splits import scored_split
from weightgen.tasks import random_subset


@dataclass
class Config(training.TrainConfig):
    dataset: str | None = None  # Meta-VQA folder
    adapted: str = training.MISSING  # run of adapt_tasks, or a zoo
    text_encoder: str = "photos"  # of the texts of a zoo without data set: a folder, or a name
    features: str | None = None  # name of the features, where the data set has several
    hvae: str | None = None  # run of train_hvae
    encoder: dict[str, Any] = training.spec("weightgen.encoders.hyperclip.HyperCLIP")
    logit_scale: float = 100.0
    halved: bool = True
    steps: int = 8400  # 600 epochs of 870 tasks in batches of 64
    batch_size: int = 64
    lr: float = 3e-4
    validate_every: int = 200
    shard_above: int | None = None  # matrices with more numbers are sharded over the processes
    question_fraction: float = 1.0  # of the training tasks, whose question is known


def inference(encoder: HyperCLIP, weights: Tensor, embeds: Tensor) -> dict[str, float]:
    """How often the question of weights (B, P) is the first, or among the first ten, of B candidates; and chance."""
    ranks = (-encoder.similarity(weights, embeds)).argsort(dim=1).argsort(dim=1).diagonal()
    count = len(embeds)
    found = {"top_1": (ranks < 1).float().mean().item(), "top_10": (ranks < 10).float().mean().item()}
    return {**found, "candidates": count, "chance_top_1": 1 / count, "chance_top_10": min(10 / count, 1.0)}


def main(cfg: Config) -> None:
    run = training.start_run(cfg, reads=("dataset", "adapted", "hvae"))
    splits = ("train", "validation", scored_split(load_meta_vqa(cfg.dataset)) if cfg.dataset else "test")
    adapted, train, validation, test = training.load_source(cfg, run.device, *splits)
    known = random_subset(len(train), cfg.question_fraction, cfg.seed)
    run.source, embeds = train, train.embeds[known]
    held_out = {
        name: (adapted.targets(tasks), tasks.embeds)
        for name, tasks in (("validation", validation), ("test", test))
    }
    zoo, known_rows = adapted.zoo, torch.tensor(known)
    hvae = training.load_module(cfg.hvae, "hypernet", run.device, cfg.trust_remote_code) if cfg.hvae else None

    @torch.no_grad()
    def seen(weights: Tensor) -> Tensor:
        return weights if hvae is None else hvae(hvae.encode(weights).mean)

    sizes = {"weights": zoo.space.size, "embed_dim": embeds.shape[-1]}
    encoder = training.build_part(cfg, "encoder", **sizes).to(run.device)
    encoder.fit(Mapped(zoo.rows(known), seen), embeds, layers=None if cfg.dataset else zoo.layers)
    objective = ContrastiveLoss(encoder, cfg.logit_scale, cfg.halved)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=cfg.lr, fused=True)
    objective, optimizer = training.prepare(run, objective, optimizer)

    @torch.no_grad()
    def validate(name: str) -> dict[str, float]:
        encoder.eval()
        weights, questions = held_out[name]
        found = inference(encoder, seen(weights), questions)
        encoder.train()
        return found

    best = training.Best(run, encoder, -1.0, "top_10")
    training.resume(run, optimizer, encoder=encoder, best=best)
    for step in training.step_numbers(run, cfg.steps):
        # No question comes twice in a batch.
        rows = torch.randperm(len(embeds), device=run.device)[: cfg.batch_size]
        draws = torch.randint(zoo.shape[0], (len(rows),), device=run.device)
        weights = seen(zoo.at(draws, known_rows[rows.cpu()]))
        run.tasks = [known[row] for row in rows.tolist()]
        loss = training.outcome(run, objective, (weights, embeds[rows])).loss
        lr = training.learning_rate(cfg, step, warmup=50)
        training.update(run, optimizer, loss, encoder.parameters(), lr=lr)
        if training.due(step, cfg.validate_every, cfg.steps):
            found = validate("validation")
            best.update(step + 1, found.pop("top_10"), **found)
    facts = {"validation": best.restore(), "test": validate("test"), "settings": asdict(cfg)}
    training.save_run(run, facts, encoder=encoder)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
