"""How cost and memory grow: CPU time and peak memory against tasks, weights P and samples, with the fitted exponents.

    python -m tests.benchmarks.growth results/bench/growth        # make bench-growth; .json, .md and .png are appended

Networks and data are random. Memory is what tensors hold at a time above what was held before. Adapted weights go to disk as they are made.
Two minutes on an idle core. What whole processes need is measured by recipes/benchmarks/memory.py.
"""

import math
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks.conftest import cpu_model
from tests.benchmarks.made_up import meta_vqa_tasks
from tests.benchmarks.measure import DEVICE, seconds_of
from weightgen.adaptation import fine_tune
from weightgen.guidance import ClassifierFreeGuidance
from weightgen.hypernets import HVAE
from weightgen.networks import CLIPAdapter
from weightgen.priors import DiffusionPrior, MLPDenoiser, paper_schedule
from weightgen.reports.figures import COLOURS, MARKERS, saved_figure
from weightgen.reports.tables import markdown_table, write_report
from weightgen.reports.timing import peak_bytes
from weightgen.storage.files import write_tensors
from weightgen.tasks import batches, collate
from weightgen.training import keep_memory
from weightgen.weights import FunctionalNetwork

ROUNDS = int(os.environ.get("ROUNDS") or 3)
SCENES = (128, 32)  # E and H of the adapter: P = 8,352
ADAPTERS = (SCENES, (256, 128), (768, 256), (1024, 2048))


def adaptation(size, count, folder):
    """Ten steps on each of so many tasks, in batches of 32; the weights go to disk."""
    network = FunctionalNetwork(CLIPAdapter(*size)).to(DEVICE)
    tasks = meta_vqa_tasks(min(count, 64), size[0])
    sizes = [len(tasks[number % len(tasks)].support.labels) for number in range(count)]
    start = network.initial_weights

    def run():
        for number, rows in enumerate(batches(sizes, min(32, count))):
            batch = collate([tasks[row % len(tasks)] for row in rows])
            found = fine_tune(network, None, batch, steps=10, lr=0.01, start=start.expand(len(rows), -1))
            write_tensors(folder / f"{number}.safetensors", {"weights": found.cpu()})

    return run


def sampling(size, count, folder):
    """So many sampled and decoded weights, guided, 20 steps of DDIM."""
    network = FunctionalNetwork(CLIPAdapter(*size))
    hvae = HVAE(network.space, 96, (16,), linear=False).to(DEVICE).eval()
    hvae.standardizer.fit(torch.randn(4, network.space.size, device=DEVICE))
    denoiser = MLPDenoiser(96, 128, (384, 384, 384)).to(DEVICE).eval()
    embeds = torch.randn(count, 128, device=DEVICE)
    denoiser.embeds.fit(torch.randn(64, 128, device=DEVICE))
    prior = DiffusionPrior(denoiser, paper_schedule()).to(DEVICE)
    prior.latents.fit(torch.randn(200, 96, device=DEVICE))

    @torch.no_grad()
    def run():
        return hvae(prior.sample(embeds, guide=lambda inner: ClassifierFreeGuidance(inner, 1.5)))

    return run


def studies(folder):
    """What grows with what: name → (axis, size → run)."""
    counts, weights = (
        (64, 256, 1024, 4096),
        {FunctionalNetwork(CLIPAdapter(*size)).space.size: size for size in ADAPTERS},
    )
    yield "adaptation, P = 8,352", "tasks", {n: lambda n=n: adaptation(SCENES, n, folder) for n in counts}
    yield "adaptation, 16 tasks", "P", {p: lambda s=s: adaptation(s, 16, folder) for p, s in weights.items()}
    yield "sampling, P = 8,352", "samples", {n: lambda n=n: sampling(SCENES, n, folder) for n in counts}
    yield "sampling, 16 samples", "P", {p: lambda s=s: sampling(s, 16, folder) for p, s in weights.items()}


def exponent(points):
    """k of the least-squares fit y = c xᵏ on logarithms."""
    x, y = (torch.tensor([math.log(point[i]) for point in points], dtype=torch.float64) for i in (0, 1))
    return ((x - x.mean()) @ (y - y.mean()) / (x - x.mean()).square().sum()).item()


def measured(make):
    """Median CPU seconds and peak bytes of tensors."""
    torch.manual_seed(0)
    run = make()
    peak = peak_bytes(run, DEVICE)
    return median(seconds_of(run) for _ in range(ROUNDS)), peak


def main(output):
    torch.set_num_threads(1)
    keep_memory()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, axis, sizes in studies(Path(folder)):
            points = [(size, *measured(make)) for size, make in sizes.items()]
            fits = [exponent(points), exponent([(size, peak) for size, _, peak in points])]
            rows.append({"what": name, "axis": axis, "points": points, "exponents": fits})
            print(rows[-1], flush=True)
    facts = {"cpu": cpu_model(), "torch": torch.__version__, "device": DEVICE.type}
    write_report(output, {"machine": facts, "rounds": ROUNDS, "rows": rows}, text_of(facts, rows))
    draw(rows, f"{output}.png")


def text_of(facts, rows):
    table = [
        [
            row["what"],
            f"{size:,}",
            f"{1e3 * seconds:.3g}",
            f"{peak / 1e6:.3g}",
            *(f"{fit:.2f}" for fit in row["exponents"]),
        ]
        for row in rows
        for size, seconds, peak in row["points"]
    ]
    columns = [
        "what",
        "tasks, samples or P",
        "CPU time, ms",
        "peak memory of tensors, MB",
        "exponent of time",
        "of memory",
    ]
    head = (
        f"# Growth\n\n`make bench-growth` on {facts['cpu']}, one thread, torch {facts['torch']}: medians of {ROUNDS} runs. "
        "The exponent k is that of the fit y = c xᵏ to the rows of a kind; 0 is flat, 1 in proportion. "
        "Of tasks, a batch of 32 is in memory at a time; among more tasks it holds more large ones. Samples are all returned at once."
        "\n\n![Growth](growth.png)\n\n"
    )
    return head + markdown_table(columns, table)


def draw(rows, path):
    with saved_figure(path, 2, (11, 4.5)) as axes:
        for axis, column, label in zip(
            axes, (1, 2), ("CPU time (s)", "peak memory of tensors (MB)"), strict=True
        ):
            for number, row in enumerate(rows):
                values = [point[column] / (1 if column == 1 else 1e6) for point in row["points"]]
                name = f"{row['what']}: {row['axis']}^{row['exponents'][column - 1]:.2f}"
                style = {"color": COLOURS[number], "marker": MARKERS[number]}
                axis.loglog([point[0] for point in row["points"]], values, label=name, **style)
            axis.set(xlabel="tasks, samples or P", ylabel=label)
            axis.legend(fontsize=8)


if __name__ == "__main__":
    main(sys.argv[1])
