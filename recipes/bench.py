"""Measure what batching, guidance in one pass and few denoising steps save, and what checkpointing costs.

    make bench                                  # writes results/bench.json and results/bench.md
    python recipes/bench.py sizes=[scenes]      # without the paper's denoiser, which takes 3 GB

Everything is random, networks and data, in the sizes of Scenes and of the papers: no data set and no training are needed. A run takes
about two minutes of one core's time. Both ways of a row are first checked to give the same numbers, where they should; then they are
timed in turns, so that what else runs on the machine slows both. A ratio holds for the machine that the report names. Runs on a GPU
where there is one (`device=cpu` if it should not).
"""

import os

# The profiler is to keep its remarks on missing GPUs to itself; it asks when torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from weightgen.adaptation import adapt
from weightgen.errors import InputError, one_line_errors
from weightgen.guidance import ClassifierFreeGuidance
from weightgen.hypernets import HyperTransformer
from weightgen.hypernets.support_hnet import writer_for
from weightgen.metrics import task_loss
from weightgen.networks import CLIPAdapter, ConvNet
from weightgen.objectives.episodic import EpisodicLoss
from weightgen.priors import DiffusionPrior, MLPDenoiser, null_embeds
from weightgen.reports.timing import Pair, machine, markdown, measured
from weightgen.storage.files import write_json, written_beside
from weightgen.tasks import Examples, TaskBatch, collate
from weightgen.training.config import parse
from weightgen.weights import WeightSpace


@dataclass
class Config:
    output: str = "results/bench"  # .json and .md are appended
    sizes: list[str] = field(default_factory=lambda: ["scenes", "paper"])
    repeats: int = 5  # of both ways of a row, in turns
    min_seconds: float = 0.1  # of a repeat: what is shorter runs several times
    threads: int = 1
    device: str = "auto"  # cuda if there is one, else cpu


class Size(NamedTuple):
    """Shapes of what is measured."""

    tasks: int
    examples: tuple[int, int]  # fewest and most in a support set
    answers: tuple[int, int]
    embed_dim: int
    hidden_dim: int  # of the adapter
    latent_dim: int
    denoiser: tuple[int, ...]
    channels: int  # of the CNN that a HyperTransformer writes
    ways: int
    image_size: int
    steps: int = 350  # of DDPM; 0 leaves the row out


SIZES = {
    # A batch of Scenes' training tasks as it is; Omniglot with 8 channels.
    "scenes": Size(64, (42, 71), (3, 8), 128, 32, 96, (384, 384, 384), 8, 20, 28),
    # The papers' own: ViT-L/14 features, a batch of Meta-VQA tasks near the median size; Omniglot with 16 channels.
    "paper": Size(8, (24, 36), (2, 10), 768, 256, 32, (8192, 16384, 8192), 16, 20, 28, steps=0),
    "tiny": Size(3, (4, 6), (2, 3), 8, 4, 4, (16,), 4, 3, 16, steps=30),
}
INNER_STEPS, INNER_LR, EPISODES, SAMPLES = 5, 0.1, 8, 4


def ragged_tasks(size: Size, device: torch.device) -> list[TaskBatch]:
    draw = torch.Generator().manual_seed(0)

    def features(*shape: int) -> Tensor:
        return torch.randn(*shape, size.embed_dim, generator=draw).to(device)

    tasks = []
    for _ in range(size.tasks):
        count, answers = (
            int(torch.randint(a, b + 1, (), generator=draw)) for a, b in (size.examples, size.answers)
        )
        support, query = (
            Examples(features(count), torch.randint(answers, (count,), generator=draw).to(device))
            for _ in range(2)
        )
        context = {
            "answers": features(answers),
            "answer_mask": torch.ones(answers, dtype=torch.bool, device=device),
        }
        tasks.append(TaskBatch(support, query, features(), context))
    return tasks


def inner_loops(size: Size, device: torch.device) -> Iterator[Pair]:
    """MAML's inner loop: all tasks at once, or one after the other without any padding."""
    network = CLIPAdapter(size.embed_dim, size.hidden_dim).to(device)
    space, tasks = WeightSpace.of(network), ragged_tasks(size, device)
    start = dict(network.named_parameters())
    flat, batch = space.flatten(start).detach().requires_grad_(), collate(tasks)

    def adapted(batch: TaskBatch, steps: int, **how: Any) -> Tensor:
        point = flat.expand(len(batch.embeds), -1)
        return adapt(space, network, point, batch.support, batch.context, steps=steps, lr=INNER_LR, **how)

    def outer(batch: TaskBatch, steps: int, checkpoint_steps: bool = False) -> Tensor:
        weights = adapted(batch, steps, first_order=False, checkpoint_steps=checkpoint_steps)
        logits = space.call_batch(network, weights, batch.query.inputs, **batch.context)
        return torch.autograd.grad(task_loss(logits, batch.query.labels).mean(), flat)[0]

    def loss(params: dict[str, Tensor], examples: Examples, task: TaskBatch) -> Tensor:
        return cross_entropy(
            functional_call(network, params, (examples.inputs,), task.context), examples.labels
        )

    def loop(task: TaskBatch, create_graph: bool) -> dict[str, Tensor]:
        params = start
        for _ in range(INNER_STEPS):
            slopes = torch.autograd.grad(
                loss(params, task.support, task), [*params.values()], create_graph=create_graph
            )
            params = {
                name: (p - INNER_LR * g) if create_graph else (p - INNER_LR * g).detach().requires_grad_()
                for (name, p), g in zip(params.items(), slopes, strict=True)
            }
        return params

    def looped() -> Tensor:
        return torch.stack([space.flatten(loop(task, create_graph=False)) for task in tasks])

    def looped_outer() -> Tensor:
        total = sum(
            (loss(loop(task, True), task.query, task) for task in tasks), start=torch.zeros((), device=device)
        )
        slopes = torch.autograd.grad(total / len(tasks), [*start.values()])
        return space.flatten(dict(zip(start, slopes, strict=True)))

    number = f"{size.tasks} tasks of {size.examples[0]} to {size.examples[1]} examples, {INNER_STEPS} gradient steps"
    yield Pair(
        f"adaptation of {number}", "one batch", "a loop over tasks",
        lambda: adapted(batch, INNER_STEPS).detach(), looped,
    )  # fmt: skip
    meta = "gradient of MAML (second order)"
    yield Pair(
        f"{meta}, {number}", "one batch", "a loop over tasks",
        lambda: outer(batch, INNER_STEPS), looped_outer,
    )  # fmt: skip
    half, many = collate(tasks[: max(1, len(tasks) // 2)]), 2 * INNER_STEPS
    yield Pair(
        f"{meta}, {len(half.embeds)} tasks, {many} gradient steps", "checkpointed steps", "all kept",
        lambda: outer(half, many, checkpoint_steps=True), lambda: outer(half, many), memory=True,
    )  # fmt: skip


def one_pass(size: Size, device: torch.device) -> Iterator[Pair]:
    """An adapter for one task, written from its support set or learned from it."""
    network = CLIPAdapter(size.embed_dim, size.hidden_dim).to(device)
    space, task = WeightSpace.of(network), collate(ragged_tasks(size, device)[:1])
    start = space.flatten(dict(network.named_parameters())).detach()
    hypernet = writer_for(network, embed_dim=1).init_weights(start.cpu()).to(device).eval()

    @torch.no_grad()
    def written() -> Tensor:
        return hypernet(task.support, task.context["answers"])

    @torch.no_grad()
    def learned() -> Tensor:
        return adapt(space, network, start[None], task.support, task.context, steps=50, lr=INNER_LR)

    yield Pair(
        f"an adapter from {task.support.labels.shape[1]} examples", "one pass of a SupportHNet", "50 gradient steps",
        written, learned, same=False,
    )  # fmt: skip


def episodes(size: Size, device: torch.device) -> Iterator[Pair]:
    """A HyperTransformer on several episodes: writing and asking the CNNs, and a step of training."""
    network = ConvNet(size.channels, size.ways, size.image_size)
    objective = EpisodicLoss(HyperTransformer(network)).to(device)
    labels = torch.arange(size.ways, device=device)
    images = torch.rand(2, EPISODES, size.ways, 1, size.image_size, size.image_size, device=device)
    support, query = (Examples(x, labels.expand(EPISODES, -1)) for x in images)
    batch = TaskBatch(support, query, torch.zeros(EPISODES, 0, device=device), {})
    single = [
        TaskBatch(
            *(Examples(x[i : i + 1], y[i : i + 1]) for x, y in (support, query)), batch.embeds[i : i + 1], {}
        )
        for i in range(EPISODES)
    ]
    parameters = list(objective.parameters())

    def slopes(batches: list[TaskBatch]) -> Tensor:
        objective.zero_grad()
        for part in batches:
            (objective(part).loss / len(batches)).backward()
        return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])

    @torch.no_grad()
    def logits(batches: list[TaskBatch]) -> Tensor:
        return torch.cat([objective.logits(part) for part in batches])

    kind = f"HyperTransformer, {EPISODES} episodes of {size.ways} ways, {size.channels} channels"
    together, alone = "one batch", "one at a time"
    yield Pair(f"{kind}: predictions", together, alone, lambda: logits([batch]), lambda: logits(single))
    yield Pair(f"{kind}: gradient", together, alone, lambda: slopes([batch]), lambda: slopes(single))


def sampling(size: Size, device: torch.device) -> Iterator[Pair]:
    """Guided denoising in one pass or two, and few steps against the paper's."""
    denoiser = MLPDenoiser(size.latent_dim, size.embed_dim, size.denoiser).to(device).eval()
    latents, embeds = (torch.randn(SAMPLES, n, device=device) for n in (size.latent_dim, size.embed_dim))
    times = torch.full((SAMPLES,), 100, device=device)
    denoiser.embeds.fit(torch.randn(64, size.embed_dim, device=device))
    guided = ClassifierFreeGuidance(denoiser, 1.5)

    @torch.no_grad()
    def together() -> Tensor:
        return guided(latents, times, embeds)

    @torch.no_grad()
    def apart() -> Tensor:
        unconditional = denoiser(latents, times, null_embeds(embeds))
        return unconditional + 1.5 * (denoiser(latents, times, embeds) - unconditional)

    kind = f"{SAMPLES} weight samples, denoiser of {sum(p.numel() for p in denoiser.parameters()) / 1e6:.3g} M parameters"
    yield Pair(f"{kind}: a guided step", "one pass of 2 B", "two passes of B", together, apart)
    if not size.steps:
        return
    betas = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.06, "clip_sample": False}
    few, many = (
        DiffusionPrior(denoiser, kind(num_train_timesteps=350, **betas)).to(device)
        for kind in (DDIMScheduler, DDPMScheduler)
    )

    for prior in (few, many):
        prior.latents.fit(torch.randn(64, size.latent_dim, device=device))

    def sampled(prior: DiffusionPrior, steps: int) -> Tensor:
        return prior.sample(embeds, num_inference_steps=steps, guide=lambda d: ClassifierFreeGuidance(d, 1.5))

    yield Pair(
        f"{kind}: latents at scale 1.5", "DDIM, 20 steps (the default)", f"DDPM, {size.steps} steps",
        lambda: sampled(few, 20), lambda: sampled(many, size.steps), same=False,
    )  # fmt: skip


def main(cfg: Config) -> None:
    if wrong := [name for name in cfg.sizes if name not in SIZES]:
        raise InputError(f"no size {wrong[0]!r}, only {', '.join(SIZES)}")
    if cfg.repeats < 1 or cfg.threads < 1:
        raise InputError(f"expected repeats and threads from 1 up, got {cfg.repeats} and {cfg.threads}")
    if cfg.device not in ("auto", "cpu", "cuda"):
        raise InputError(f"expected device to be auto, cpu or cuda, got {cfg.device!r}")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is there: write device=cpu")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(automatic if cfg.device == "auto" else cfg.device)
    facts, started = machine(device, cfg.threads), time.monotonic()
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(0)
    rows = []
    with tqdm(unit="row", desc="measuring") as bar:
        for name in cfg.sizes:
            for family in (inner_loops, one_pass, episodes, sampling):
                for pair in family(SIZES[name], device):
                    bar.set_postfix_str(f"{name}: {pair.what:.40}")
                    row = measured(pair, device, cfg.repeats, cfg.min_seconds, cfg.threads)
                    rows.append({"size": name, **row})
                    bar.update()
    report = {
        "title": "What batching saves",
        "command": f"python recipes/bench.py sizes=[{','.join(cfg.sizes)}] repeats={cfg.repeats} threads={cfg.threads}",
        "machine": facts, "repeats": cfg.repeats, "seconds": time.monotonic() - started, "rows": rows,
    }  # fmt: skip
    write_json(f"{cfg.output}.json", report)
    with written_beside(f"{cfg.output}.md", overwrite=True) as partial:
        partial.write_text(markdown(report), encoding="utf-8")
    print(markdown(report), end="")


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
