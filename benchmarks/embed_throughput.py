"""How fast images are embedded, from JPEG files to a feature store, against the bare model.

    python benchmarks/embed_throughput.py [--images 128] [--batch-size 16] [--rounds 5] [--output FILE.json]

The bare model gets pixels that are ready in memory, and is run in the two ways there are to use all CPUs: all
threads inside torch ("inside"), or one batch to a thread ("beside"). The recipe decodes and writes besides.
Rounds alternate between the three, so that what else the machine does disturbs all. `ratio` is the median
over rounds of the recipe's images per second over those of the faster bare run; `cpu_ratio` is the processor
time of the cheaper bare run over the recipe's, which a busy machine disturbs less. Three minutes on 2 cores.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from weightgen.data.features.embed import embed_images
from weightgen.data.features.images import ImageStore
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.encoders.clip import CLIP
from weightgen.encoders.load import load_clip
from weightgen.storage.files import write_json


def write_jpegs(folder: Path, count: int) -> list[str]:
    """Write pictures of COCO's size, with detail enough for about 100 kB each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    names = [f"COCO_train2014_{number:012d}" for number in range(count)]
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((640, 480))
        noise = rng.normal(0, 12, (480, 640, 1))
        pixels = np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=90)
    return names


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds, and processor seconds of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare_inside(clip: CLIP, batches: list[Tensor]) -> None:
    """Embed batch after batch, all threads inside torch."""
    for batch in batches:
        clip.encode_images(batch, batch_size=len(batch))
    if clip.device.type == "cuda":
        torch.cuda.synchronize()


def bare_beside(clip: CLIP, batches: list[Tensor]) -> None:
    """Embed a batch in each thread, with one thread inside torch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda batch: clip.encode_images(batch, batch_size=len(batch)), batches))
    torch.set_num_threads(threads)


def embed(clip: CLIP, store: ImageStore, names: list[str], batch_size: int, folder: Path) -> None:
    """Embed as the recipe does."""
    plan = FeaturePlan(clip.name, names, [], [], "single", batch_size, shard_size=len(names))
    writer = FeatureWriter(folder, plan)
    writer.begin()
    embed_images(writer, clip, store, range(len(plan.shards("images"))), workers=os.cpu_count() or 1)
    writer.finish({})


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all rounds."""
    torch.set_num_threads(os.cpu_count() or 1)
    clip = load_clip(args.model, random_weights=True, device=args.device)
    names = write_jpegs(folder / "images", args.images)
    store = ImageStore(folder / "images")
    pixels = torch.cat([clip._normalized(clip.preprocess(store.open(name))[None]).cpu() for name in names])
    batches = list(pixels.split(args.batch_size))
    ways: dict[str, Callable[[Path], None]] = {
        "bare, inside": lambda target: bare_inside(clip, batches),
        "recipe": lambda target: embed(clip, store, names, args.batch_size, target),
    }
    if clip.device.type == "cpu":
        ways["bare, beside"] = lambda target: bare_beside(clip, batches)
    bare_inside(clip, batches[:2])
    speed: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    for number in tqdm(range(args.rounds), desc="rounds"):
        for way, work in ways.items():
            wall, processor = timed(partial(work, folder / f"round {number}"))
            speed[way].append(args.images / wall)
            cpu[way].append(processor / args.images)
    bares = [way for way in ways if way != "recipe"]
    ratios = [mine / max(speed[way][number] for way in bares) for number, mine in enumerate(speed["recipe"])]
    medians = {way: statistics.median(values) for way, values in cpu.items()}
    bytes_each = sum(path.stat().st_size for path in (folder / "images").iterdir()) / args.images
    return {
        "model": args.model,
        "device": str(clip.device),
        "cpus": os.cpu_count(),
        "images": args.images,
        "jpeg_kilobytes": round(bytes_each / 1000),
        "batch_size": args.batch_size,
        "rounds": args.rounds,
        "images_per_second": {way: statistics.median(values) for way, values in speed.items()},
        "cpu_seconds_per_image": medians,
        "ratio": statistics.median(ratios),
        "cpu_ratio": min(medians[way] for way in bares) / medians["recipe"],
        "versions": {
            "torch": torch.__version__,
            "open_clip": open_clip.__version__,
            "python": platform.python_version(),
        },
    }


def main() -> None:
    """Read the arguments, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ViT-B-32", help="an open_clip name; its weights are random")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="a JSON file for the figures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(args, Path(folder))
    print(json.dumps(report, indent=2))
    if args.output:
        write_json(args.output, report)


if __name__ == "__main__":
    main()
