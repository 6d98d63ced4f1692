r"""Fine-tune a low-rank adapter of a CLIP's text tower on every training task: a folder of PEFT adapters, with a sentence about each.

    python recipes/studies/fit_loras.py dataset=runs/demo-scenes/scenes/dataset output=runs/loras/common

Images stay as they are; a task adapts how its answers are embedded. Answers are read alone, without the question, so that only the
adapter knows what is asked. All fits begin at one adapter, which is trained on all tasks; with `common_start=false`, each begins at random
numbers of its own, as `peft` draws them. The number and size of the gradient steps are chosen on validation tasks.
10 minutes on a CPU core. `weightgen zoo import OUTPUT/adapters --descriptions OUTPUT/texts.jsonl` makes a zoo of it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from weightgen import training
from weightgen.adaptation import fine_tune
from weightgen.evaluation.step_sizes import try_step_sizes
from weightgen.hypernets import SharedWeights
from weightgen.objectives import AdaptationLoss
from weightgen.reports.loras import LoraStudy, fresh_starts, open_study, save_adapter
from weightgen.storage.files import check_new, write_json, written_beside
from weightgen.tasks import TaskBatchSampler, batches


@dataclass
class Config:
    dataset: str = training.MISSING
    output: str = training.MISSING  # folder to make
    tower: str = "runs/loras/tower"  # where the text tower lies, or is written
    features: str = "clip"
    rank: int = 4
    common_start: bool = True
    start_steps: int = 100  # of the adapter of all tasks
    start_lr: float = 3e-3
    examples: int = 12  # of each set of a task, while the start is trained
    batch_size: int = 32
    steps: list[int] = field(default_factory=lambda: [10, 20])
    lrs: list[float] = field(default_factory=lambda: [0.3, 1.0])
    most: int | None = None  # training meanings; by default all
    seed: int = 0


def trained_start(cfg: Config, study: LoraStudy) -> Tensor:
    """The adapter with the least loss over all training tasks."""
    network, train = study.network, study.tasks["train"]
    shared = SharedWeights(network.space).init_weights(network.initial_weights)
    objective = AdaptationLoss(network, shared)
    optimizer = torch.optim.Adam(shared.parameters(), lr=cfg.start_lr)
    for rows in TaskBatchSampler(train.sizes, cfg.batch_size, cfg.start_steps, cfg.seed):
        optimizer.zero_grad()
        objective(train.batch(rows, cfg.examples)).loss.backward()
        optimizer.step()
    return shared.weights.detach()


def main(cfg: Config) -> None:
    torch.manual_seed(cfg.seed)
    output = Path(cfg.output)
    check_new(output)
    study = open_study(cfg.dataset, cfg.features, ("train", "validation"), Path(cfg.tower), cfg.rank)
    network, start = study.network, trained_start(cfg, study)
    parts = study.one_of_each(cfg.most).tasks

    def starts(embeds: Tensor) -> Tensor:
        return start.expand(len(embeds), -1) if cfg.common_start else fresh_starts(network, len(embeds))

    tried = try_step_sizes(network, starts, parts["validation"], cfg.steps, cfg.lrs)
    best = max(tried, key=lambda trial: trial.accuracy or 0.0)
    print("\n".join(map(str, tried)), flush=True)
    with written_beside(output) as partial:
        partial.mkdir()
        texts = []
        for split, part in parts.items():
            for rows in batches(part.sizes, cfg.batch_size):
                batch = part.batch(rows)
                how = {"steps": best.steps, "lr": best.lr, "start": starts(batch.embeds)}
                fitted = fine_tune(network, None, batch, **how).detach()
                for row, weights in zip(rows, fitted, strict=True):
                    name = f"{split}_{row:04d}"
                    save_adapter(network, weights, partial / "adapters" / name)
                    texts.append(json.dumps({"name": name, "text": part.questions[row], "split": split}))
        (partial / "texts.jsonl").write_text("\n".join(sorted(texts)), encoding="utf-8")
        save_adapter(network, start, partial / "start")
        facts = {
            "steps": best.steps,
            "lr": best.lr,
            "rank": cfg.rank,
            "tried": [one._asdict() for one in tried],
        }
        write_json(partial / "fits.json", facts)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
