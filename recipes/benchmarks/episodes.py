"""Measure what batching saves in a HyperTransformer: the networks of several episodes at once, or one at a time.

    python recipes/benchmarks/episodes.py                 # writes results/bench/episodes.json and .md

Networks and images are random, in the size of Omniglot (Zhmoginov et al., 2022: section 4). Both ways are first checked to give the same
numbers, then timed in turns. A ratio holds for the machine that the report names. Half a minute on one CPU thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from weightgen import training
from weightgen.hypernets import HyperTransformer
from weightgen.networks import ConvNet
from weightgen.objectives.episodic import EpisodicLoss
from weightgen.reports.benchmark import BenchmarkConfig, run_benchmark
from weightgen.reports.timing import Pair
from weightgen.tasks import Examples, TaskBatch


@dataclass
class Config(BenchmarkConfig):
    output: str = "results/bench/episodes"  # .json and .md are appended
    sizes: list[str] = field(default_factory=lambda: ["8 channels", "16 channels"])


class Size(NamedTuple):
    channels: int  # of the CNN that is written
    ways: int
    image_size: int


SIZES = {"8 channels": Size(8, 20, 28), "16 channels": Size(16, 20, 28), "tiny": Size(4, 3, 16)}
EPISODES = 8


def episodes(size: Size, device: torch.device) -> Iterator[Pair]:
    """Writing the networks of several episodes and asking them; and a step of training."""
    network = ConvNet(size.channels, size.ways, size.image_size)
    objective = EpisodicLoss(HyperTransformer(network)).to(device)
    parameters = list(objective.parameters())
    labels = torch.arange(size.ways, device=device)
    images = torch.rand(2, EPISODES, size.ways, 1, size.image_size, size.image_size, device=device)

    def batch_of(rows: slice) -> TaskBatch:
        support, query = (Examples(x[rows], labels.expand(len(x[rows]), -1)) for x in images)
        return TaskBatch(support, query, torch.zeros(len(support.inputs), 0, device=device), {})

    together, alone = [batch_of(slice(None))], [batch_of(slice(i, i + 1)) for i in range(EPISODES)]

    def slopes(batches: list[TaskBatch]) -> Tensor:
        objective.zero_grad()
        for part in batches:
            (objective(part).loss / len(batches)).backward()
        return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])

    @torch.no_grad()
    def logits(batches: list[TaskBatch]) -> Tensor:
        return torch.cat([objective.logits(part) for part in batches])

    kind, ways = f"HyperTransformer, {EPISODES} episodes of {size.ways} ways", ("one batch", "one at a time")
    yield Pair(f"{kind}: predictions", *ways, lambda: logits(together), lambda: logits(alone))
    yield Pair(f"{kind}: gradient", *ways, lambda: slopes(together), lambda: slopes(alone))


def main(cfg: Config) -> None:
    run_benchmark(cfg, "What batching saves in a HyperTransformer", SIZES, episodes)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
