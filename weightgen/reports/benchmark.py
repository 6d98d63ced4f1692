"""A benchmark of random networks and data: the settings, the run over all pairs, and the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from weightgen.errors import InputError
from weightgen.reports.tables import markdown_table, write_report
from weightgen.reports.timing import Pair, check_device, compare, machine
from weightgen.tasks import Examples, TaskBatch


@dataclass
class BenchmarkConfig:
    """The settings of every benchmark; a recipe adds its own defaults for the first two.

    Attributes:
        output: `.json` and `.md` are appended.
        sizes: the names of the sizes to measure.
        repeats: of both ways of a row, in turns.
        min_seconds: of a repeat: what is shorter runs several times.
        threads: of the CPU.
        device: "cpu", "cuda", or "auto" for cuda where there is a GPU.
    """

    output: str = "results/bench/benchmark"
    sizes: list[str] = field(default_factory=list)
    repeats: int = 5
    min_seconds: float = 0.1
    threads: int = 1
    device: str = "auto"


def random_tasks(
    tasks: int, examples: tuple[int, int], answers: tuple[int, int], embed_dim: int, device: torch.device
) -> list[TaskBatch]:
    """Random tasks of random sizes, always the same ones.

    Args:
        tasks: how many.
        examples: the fewest and the most in a support set; a query set is as large.
        answers: the fewest and the most.
        embed_dim: E, of images and answers.
        device: where the tensors lie.

    Returns:
        Single tasks, which `collate` joins.
    """
    draw = torch.Generator().manual_seed(0)

    def part(count: int, classes: int) -> Examples:
        inputs = torch.randn(count, embed_dim, generator=draw).to(device)
        return Examples(inputs, torch.randint(classes, (count,), generator=draw).to(device))

    found = []
    for _ in range(tasks):
        sizes = (torch.randint(a, b + 1, (), generator=draw) for a, b in (examples, answers))
        count, classes = map(int, sizes)
        mask = torch.ones(classes, dtype=torch.bool, device=device)
        context = {"answers": torch.randn(classes, embed_dim, generator=draw).to(device), "answer_mask": mask}
        sets = part(count, classes), part(count, classes)
        found.append(TaskBatch(*sets, torch.zeros(0, device=device), context))
    return found


def check_benchmark(cfg: BenchmarkConfig, sizes: Iterable[str]) -> torch.device:
    """Refuse settings that cannot be, and find the device.

    Raises:
        InputError: a size that there is not, no repeats or threads, or a device that is not there.
    """
    if wrong := [name for name in cfg.sizes if name not in sizes]:
        raise InputError(f"no size {wrong[0]!r}, only {', '.join(sizes)}")
    if cfg.repeats < 1 or cfg.threads < 1:
        raise InputError(f"expected repeats and threads from 1 up, got {cfg.repeats} and {cfg.threads}")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    return check_device(automatic if cfg.device == "auto" else cfg.device)


def run_benchmark(
    cfg: BenchmarkConfig, title: str, sizes: Mapping[str, Any], *families: Callable[..., Iterable[Pair]]
) -> None:
    """Compare every pair of every family in every size, and write the report.

    Args:
        cfg: the settings.
        title: of the report.
        sizes: by name, what a family takes.
        *families: (size, device) → pairs.
    """
    device = check_benchmark(cfg, list(sizes))
    torch.set_num_threads(cfg.threads)
    torch.manual_seed(0)
    facts, started, rows = machine(device), time.monotonic(), []
    with tqdm(unit="row", desc="measuring") as bar:
        for name in cfg.sizes:
            for family in families:
                for pair in family(sizes[name], device):
                    bar.set_postfix_str(f"{name}: {pair.what:.40}")
                    rows.append({"size": name, **compare(pair, device, cfg.repeats, cfg.min_seconds)})
                    bar.update()
    settings = f"sizes=[{','.join(cfg.sizes)}] repeats={cfg.repeats} threads={cfg.threads}"
    report = {
        "title": title,
        "settings": settings,
        "machine": facts,
        "repeats": cfg.repeats,
        "seconds": time.monotonic() - started,
        "rows": rows,
    }
    write_report(cfg.output, report, benchmark_text(report))


def benchmark_text(report: Mapping[str, Any]) -> str:
    """A report of `run_benchmark` as Markdown."""
    facts, load = report["machine"], report["machine"].get("load_before", "unknown")
    head = (
        f"# {report['title']}\n\n"
        f"`{report['settings']}`: random networks and data, no training. Median of {report['repeats']} repeats in turns and, in "
        "brackets, the least and the most of them; below 1, this is slower. ms and peak memory are those of this / against.\n\n"
        f"torch {facts['torch']} on {facts.get('gpu', facts['device'])}, {facts['threads']} thread(s) of {facts['cores']} cores "
        f"({facts['cpu']}); load before the run {load}; {report['seconds']:.0f} s in all.\n\n"
    )
    columns = ["size", "what", "this", "against", "times as fast", "ms", "peak MB"]
    rows = []
    for row in report["rows"]:
        ratio = row["times_as_fast"]
        speed = f"**{ratio['median']:.2g}** ({ratio['least']:.2g} to {ratio['most']:.2g})"
        cost = " / ".join(f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}" for ms in row["milliseconds"].values())
        peak = " / ".join(f"{count / 1e6:.3g}" for count in row.get("peak_bytes", {}).values())
        rows.append([row["size"], row["what"], row["one"], row["other"], speed, cost, peak])
    return head + markdown_table(columns, rows)
