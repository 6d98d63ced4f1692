r"""Train a hypernetwork that writes low-rank adapters from questions, on the loss of the tasks themselves.

    python recipes/studies/write_loras.py dataset=runs/demo-scenes/scenes/dataset start=runs/loras/common output=runs/loras/seed0/written

It starts at the adapter of all tasks that `fit_loras.py` has trained, and needs no fine-tuned adapters. The state with the best accuracy
on validation tasks is kept. 5 minutes on a CPU core.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from weightgen import training
from weightgen.evaluation import evaluate
from weightgen.hypernets import HNet
from weightgen.objectives import AdaptationLoss
from weightgen.reports.loras import one_of_each, open_study, read_adapter
from weightgen.storage.files import check_new
from weightgen.tasks import TaskBatchSampler


@dataclass
class Config:
    dataset: str = training.MISSING
    start: str = training.MISSING  # output of fit_loras.py
    output: str = training.MISSING  # folder to make
    tower: str = "runs/loras/tower"
    features: str = "clip"
    rank: int = 4
    input_noise: float = 0.3
    steps: int = 200
    batch_size: int = 32
    examples: int = 12  # of each set of a task
    lr: float = 1e-3
    validate_every: int = 50
    seed: int = 0


def main(cfg: Config) -> None:
    check_new(cfg.output)
    torch.manual_seed(cfg.seed)
    study = open_study(cfg.dataset, cfg.features, ("train", "validation"), Path(cfg.tower), cfg.rank)
    network, (train, validation) = study.network, study.tasks.values()
    validation = validation.subset(one_of_each(validation.meanings))
    hypernet = HNet(network.space, train.embeds.shape[1], hidden_dims=(256, 256), input_noise=cfg.input_noise)
    hypernet.init_weights(read_adapter(network, Path(cfg.start) / "start")).fit(train.embeds)
    objective = AdaptationLoss(network, hypernet)
    optimizer = torch.optim.Adam(hypernet.parameters())

    def validate() -> float:
        hypernet.eval()
        found = evaluate(network, validation, lambda batch, _: hypernet(batch.embeds)).macro  # type: ignore[arg-type]
        hypernet.train()
        return found

    best = training.Best(hypernet, validate())
    for step, rows in enumerate(TaskBatchSampler(train.sizes, cfg.batch_size, cfg.steps, cfg.seed)):
        loss = objective(train.batch(rows, cfg.examples)).loss
        optimizer.param_groups[0]["lr"] = cfg.lr * training.warmup_cosine(step, 20, cfg.steps)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(hypernet.parameters(), 10.0)
        optimizer.step()
        if training.due(step, cfg.validate_every, cfg.steps):
            best.update(step + 1, validate())
            print(f"step {step + 1}: loss {loss.item():.3f}, best {best.facts}", flush=True)
    best.restore()
    hypernet.save_pretrained(cfg.output)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
