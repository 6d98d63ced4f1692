"""Measure what batching saves in the inner loop of MAML, what checkpointed steps cost, and one pass against gradient steps.

    python recipes/benchmarks/adaptation.py                # writes results/bench/adaptation.json and .md
    python recipes/benchmarks/adaptation.py sizes=[scenes]

Networks and data are random, in the sizes of Scenes and of the paper (Nava, Kobayashi et al., 2023): no data set and no training are
needed. Both ways of a row are first checked to give the same numbers, where they should; then they are timed in turns, so that what else
runs on the machine slows both. A ratio holds for the machine that the report names. About 1 minute on one CPU thread.
"""

import os

# torch's profiler, which measures memory, would print remarks on missing GPUs; it reads this when torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from weightgen import training
from weightgen.adaptation import fine_tune
from weightgen.hypernets import SharedWeights, SupportHNet
from weightgen.metrics import task_loss
from weightgen.networks import CLIPAdapter
from weightgen.reports.benchmark import BenchmarkConfig, random_tasks, run_benchmark
from weightgen.reports.timing import Pair
from weightgen.tasks import Examples, TaskBatch, collate
from weightgen.weights import FunctionalNetwork


@dataclass
class Config(BenchmarkConfig):
    output: str = "results/bench/adaptation"  # .json and .md are appended
    sizes: list[str] = field(default_factory=lambda: ["scenes", "paper"])


class Size(NamedTuple):
    tasks: int
    examples: tuple[int, int]  # fewest and most in a support set
    answers: tuple[int, int]
    embed_dim: int
    hidden_dim: int  # of the adapter


SIZES = {
    "scenes": Size(64, (42, 71), (3, 8), 128, 32),  # a batch of training tasks as it is
    "paper": Size(8, (24, 36), (2, 10), 768, 256),  # ViT-L/14 features, Meta-VQA tasks near the median size
    "tiny": Size(3, (4, 6), (2, 3), 8, 4),
}
STEPS, LR = 5, 0.1


def inner_loops(size: Size, device: torch.device) -> Iterator[Pair]:
    """Adaptation and MAML's second-order gradient: all tasks at once, or one after the other without any padding."""
    network = FunctionalNetwork(CLIPAdapter(size.embed_dim, size.hidden_dim)).to(device)
    tasks = random_tasks(*size[:4], device)
    batch, half = collate(tasks), collate(tasks[: max(1, len(tasks) // 2)])
    shared = SharedWeights(network.space).init_weights(network.initial_weights.cpu()).to(device)

    def outer(batch: TaskBatch, steps: int, checkpoint_steps: bool = False) -> Tensor:
        how = {"first_order": False, "checkpoint_steps": checkpoint_steps}
        weights = fine_tune(network, shared, batch, steps=steps, lr=LR, **how)
        loss = task_loss(network(weights, batch.query.inputs, **batch.context), batch.query.labels).mean()
        return torch.autograd.grad(loss, shared.weights)[0]

    def loss_of(weights: Tensor, examples: Examples, task: TaskBatch) -> Tensor:
        return cross_entropy(network.single(weights, examples.inputs, **task.context), examples.labels)

    def one(task: TaskBatch, create_graph: bool) -> Tensor:
        weights = shared.weights
        for _ in range(STEPS):
            slope = torch.autograd.grad(
                loss_of(weights, task.support, task), weights, create_graph=create_graph
            )[0]
            weights = weights - LR * slope
        return weights

    def looped_outer() -> Tensor:
        loss = torch.stack([loss_of(one(task, True), task.query, task) for task in tasks]).mean()
        return torch.autograd.grad(loss, shared.weights)[0]

    ways, meta = ("one batch", "a loop over tasks"), "gradient of MAML (second order)"
    number = (
        f"{size.tasks} tasks of {size.examples[0]} to {size.examples[1]} examples, {STEPS} gradient steps"
    )
    together = lambda: fine_tune(network, shared, batch, steps=STEPS, lr=LR).detach()  # noqa: E731
    alone = lambda: torch.stack([one(task, False).detach() for task in tasks])  # noqa: E731
    yield Pair(f"adaptation of {number}", *ways, together, alone)
    yield Pair(f"{meta}, {number}", *ways, lambda: outer(batch, STEPS), looped_outer)
    many = 2 * STEPS
    kept = (lambda: outer(half, many, True), lambda: outer(half, many))
    what = f"{meta}, {len(half.embeds)} tasks, {many} gradient steps"
    yield Pair(what, "checkpointed steps", "all kept", *kept, memory=True)


@torch.no_grad()
def one_pass(size: Size, device: torch.device) -> Iterator[Pair]:
    """An adapter for one task: written from its support set, or learned from it."""
    network = FunctionalNetwork(CLIPAdapter(size.embed_dim, size.hidden_dim)).to(device)
    task, start = collate(random_tasks(*size[:4], device)[:1]), network.initial_weights.cpu()
    shared = SharedWeights(network.space).init_weights(start).to(device)
    hypernet = SupportHNet.for_network(network, embed_dim=1).init_weights(start).to(device).eval()
    yield Pair(
        f"an adapter from {task.support.labels.shape[1]} examples", "one pass of a SupportHNet", "50 gradient steps",
        lambda: hypernet(task.support, task.context["answers"]),
        lambda: fine_tune(network, shared, task, steps=50, lr=LR), same=False,
    )  # fmt: skip


def main(cfg: Config) -> None:
    run_benchmark(cfg, "What batching saves in adaptation", SIZES, inner_loops, one_pass)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
