"""JPEG files to a store of features, against the bare model on the same pixels."""

import itertools
import os

import numpy as np
import torch
from PIL import Image

from tests.benchmarks.measure import DEVICE
from weightgen.data.features.embed import embed_images
from weightgen.data.features.images import ImageStore
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.encoders.load import load_clip

IMAGES, BATCH = int(os.environ.get("IMAGES", 128)), 16


def write_jpegs(folder):
    """Pictures of COCO's size, with detail enough for about 100 kB each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    names = [f"COCO_train2014_{number:012d}" for number in range(IMAGES)]
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).resize((640, 480))
        pixels = np.clip(np.asarray(coarse) + rng.normal(0, 12, (480, 640, 1)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=90)
    return names


def test_embedding(row, tmp_path):
    encoder = load_clip("ViT-B-32", random_weights=True, device=DEVICE)
    names, store, fresh = write_jpegs(tmp_path / "images"), ImageStore(tmp_path / "images"), itertools.count()
    pixels = [encoder._normalized(encoder.preprocess(store.open(name))[None]) for name in names]
    parts = torch.cat(pixels).split(BATCH)

    def ours():
        plan = FeaturePlan(encoder.name, names, [], [], "single", BATCH, shard_size=len(names))
        writer = FeatureWriter(tmp_path / f"round {next(fresh)}", plan)
        writer.begin()
        embed_images(writer, encoder, store, range(len(plan.shards("images"))), workers=1)
        writer.finish({})

    row(
        f"embedding {IMAGES:,} JPEG files with ViT-B-32 (random weights)",
        ours,
        limit=lambda: [encoder.encode_images(part, batch_size=len(part)) for part in parts],
        aims=(None, 0.9),
        rounds=3,
        note=f"limit: the bare model on the same {IMAGES} pictures, decoded, in batches of {BATCH}; the rest is decoding",
    )
