"""Measure how fast images are embedded, from JPEG files to a feature store, against the bare model.

    python recipes/benchmarks/embed_throughput.py output=results/bench/embed_throughput.json

The bare model gets pixels that are ready in memory, and runs in the two ways there are to use all CPUs: all threads inside torch
("inside"), or one batch to a thread ("beside"). The recipe decodes and writes besides. The three take turns. `ratio` is the median over
rounds of the recipe's images per second over those of the faster bare run; `cpu_ratio` is the processor time of the cheaper bare run over
the recipe's, which a busy machine disturbs less. 3 minutes on 2 cores.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from weightgen import training
from weightgen.data.features.embed import embed_images
from weightgen.data.features.images import ImageStore
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.encoders.load import load_clip
from weightgen.reports.tables import versions
from weightgen.reports.timing import machine, time_in_turns
from weightgen.storage.files import write_json


@dataclass
class Config:
    output: str = training.MISSING  # JSON file
    model: str = "ViT-B-32"  # an open_clip name; its weights are random
    device: str = "cpu"
    images: int = 128
    batch_size: int = 16
    rounds: int = 5


def write_jpegs(folder: Path, count: int) -> list[str]:
    """Write pictures of COCO's size, with detail enough for about 100 kB each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    names = [f"COCO_train2014_{number:012d}" for number in range(count)]
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((640, 480))
        pixels = np.clip(np.asarray(coarse) + rng.normal(0, 12, (480, 640, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=90)
    return names


def bare_beside(encoder: Any, batches: Sequence[Tensor]) -> None:
    """Embed a batch in each thread, with one thread inside torch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda batch: encoder.encode_images(batch, batch_size=len(batch)), batches))
    torch.set_num_threads(threads)


def embed(encoder: Any, store: ImageStore, names: list[str], batch_size: int, folder: Path) -> None:
    """Embed as the recipe does."""
    plan = FeaturePlan(encoder.name, names, [], [], "single", batch_size, shard_size=len(names))
    writer = FeatureWriter(folder, plan)
    writer.begin()
    embed_images(writer, encoder, store, range(len(plan.shards("images"))), workers=os.cpu_count() or 1)
    writer.finish({})


def measure(cfg: Config, folder: Path) -> dict[str, Any]:
    """Run all rounds."""
    torch.set_num_threads(os.cpu_count() or 1)
    encoder = load_clip(cfg.model, random_weights=True, device=cfg.device)
    names, store = write_jpegs(folder / "images", cfg.images), ImageStore(folder / "images")
    fresh = itertools.count()
    pixels = [encoder._normalized(encoder.preprocess(store.open(name))[None]).cpu() for name in names]
    batches = torch.cat(pixels).split(cfg.batch_size)
    ways: dict[str, Callable[[], object]] = {
        "bare, inside": lambda: [encoder.encode_images(b, batch_size=len(b)) for b in batches],
        "recipe": lambda: embed(encoder, store, names, cfg.batch_size, folder / f"round {next(fresh)}"),
    }
    if encoder.device.type == "cpu":
        ways["bare, beside"] = lambda: bare_beside(encoder, batches)
    took, size = (
        time_in_turns(ways, cfg.rounds),
        sum(path.stat().st_size for path in (folder / "images").iterdir()),
    )
    cpu = {way: median(each.cpu_seconds for each in found) / cfg.images for way, found in took.items()}
    speed = {way: [cfg.images / each.seconds for each in found] for way, found in took.items()}
    mine, *bares = speed["recipe"], *(speed[way] for way in ways if way != "recipe")
    return {
        "settings": vars(cfg),
        "machine": machine(encoder.device),
        "jpeg_kilobytes": size // (1000 * cfg.images),
        "images_per_second": {way: median(values) for way, values in speed.items()},
        "cpu_seconds_per_image": cpu,
        "ratio": median(own / max(bare) for own, bare in zip(mine, zip(*bares, strict=True), strict=True)),
        "cpu_ratio": min(seconds for way, seconds in cpu.items() if way != "recipe") / cpu["recipe"],
        "versions": versions(),
    }


def main(cfg: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(cfg.output, measure(cfg, Path(folder)))
    print(Path(cfg.output).read_text(encoding="utf-8"))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
