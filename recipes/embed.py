"""Embed the images, questions and answers of a Meta-VQA data set, once.

    accelerate launch recipes/embed.py dataset=OUT images=DIR model=ViT-L-14-336 pretrained=openai

Writes `<dataset>/features/<name>/`, which training reads memory-mapped, with all that is needed to get the
encoder again. `images` is a folder as COCO unpacks it, a flat one, or zip files. Started again after a kill, it
goes on after the last finished shard. On 2 busy CPU cores 12,000 images of 64 x 64 take a small CLIP 20 seconds,
and 640 x 480 JPEGs go through ViT-B-32 at 8 a second, nine tenths of what the model alone does.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from weightgen import training
from weightgen.data.features.embed import embed_images, embed_texts, names_to_embed, sample_images
from weightgen.data.features.images import ImageStore
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa.disk import FACTS, load_meta_vqa
from weightgen.data.meta_vqa.unreadable import Fewest, too_small
from weightgen.encoders.load import load_clip, load_encoder
from weightgen.encoders.token_encoder import TokenEncoder
from weightgen.errors import InputError
from weightgen.protocols import Encoder
from weightgen.storage.files import read_json


@dataclass
class Config:
    dataset: str = training.MISSING  # folder that data/meta_vqa/prepare.py wrote
    images: str = training.MISSING  # folder or zip file
    model: str | None = None  # a CLIP: an open_clip name, or a folder
    pretrained: str | None = None  # the tag of a name's weights
    random_weights: bool = False  # a named model untrained, to try things out
    # In place of model: {folder: SAVED}, of a PairedEncoder for example, or {_component_: my.module.Encoder, ...}
    encoder: dict[str, Any] | None = None
    trust_remote_code: bool = False  # whether a class that is not weightgen's may be imported and run
    name: str | None = None  # of the features; by default that of the encoder
    batch_size: int = 64
    workers: int | None = None  # threads of a process; by default its share of the CPUs
    tokens: int | None = None  # S: add S x S tokens of each image to its embedding, for a TokenAdapter
    token_dim: int = 64  # principal components in a token
    precision: str = "fp32"  # of a CLIP's computation: fp32, fp16, bf16
    dtype: str = "single"  # on disk: single, half
    preprocess: str = "center-crop"  # the CLIP's own; or squash, as the authors of HyperCLIP
    on_error: str = "stop"  # skip: leave out images that cannot be read
    shard_size: int = 4096
    overwrite: bool = False


def make_encoder(cfg: Config, device: Any) -> Encoder:
    if (cfg.model is None) == (cfg.encoder is None):
        raise InputError("give one of model=... and encoder={folder: ...} or encoder={_component_: ...}")
    if cfg.encoder is not None:
        source = cfg.encoder.get("folder", cfg.encoder)
        return load_encoder(source, device=device, trust_remote_code=cfg.trust_remote_code)
    how = {"precision": cfg.precision, "random_weights": cfg.random_weights, "preprocess": cfg.preprocess}
    return load_clip(str(cfg.model), cfg.pretrained, device=device, **how)


def main(cfg: Config) -> None:
    if cfg.on_error not in ("stop", "skip"):
        raise InputError(f"unknown on_error {cfg.on_error!r}: choose stop or skip")
    accelerator = training.Accelerator()
    splits = load_meta_vqa(cfg.dataset)
    store = ImageStore(cfg.images)
    names = names_to_embed(splits)
    encoder = make_encoder(cfg, accelerator.device)
    if cfg.tokens:
        sample = sample_images(store, names["images"])
        encoder = TokenEncoder.fit(encoder, sample, cfg.tokens, cfg.token_dim)
    sizes = {"dtype": cfg.dtype, "batch_size": cfg.batch_size, "shard_size": cfg.shard_size}
    plan = FeaturePlan(f"{encoder.digest} {cfg.precision}", **names, **sizes)
    writer = FeatureWriter(Path(cfg.dataset) / "features" / (cfg.name or encoder.name), plan, cfg.overwrite)
    with accelerator.main_process_first():
        if not writer.begin():
            accelerator.print(f"{writer.folder} is there already")
            return
    skip = cfg.on_error == "skip"
    missing = {name: "missing" for name in plan.images if name not in store}
    if missing and (not skip or len(missing) == len(plan.images)):
        writer.refuse(missing)
    accelerator.print(f"{writer.folder}: will take {plan.megabytes(encoder):,.0f} MB")
    left = writer.unfinished()
    accelerator.wait_for_everyone()
    mine = left[accelerator.process_index :: accelerator.num_processes]
    workers = cfg.workers or max(1, (os.cpu_count() or 1) // accelerator.num_processes)
    embed_texts(writer, encoder, [shard for shard in mine if shard[0] != "images"], workers)
    numbers = [number for kind, number in mine if kind == "images"]
    total = sum(len(plan.shards("images")[number]) for number in numbers)
    with tqdm(total=total, desc="images", disable=not accelerator.is_local_main_process) as bar:
        embed_images(writer, encoder, store, numbers, workers=workers, skip_broken=skip, progress=bar.update)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    if failures := writer.failures():
        writer.refuse(failures)
    rules = read_json(Path(cfg.dataset) / FACTS).get("rules") or {}
    fewest = Fewest(rules.get("min_examples", 21), rules.get("min_answers", 2))
    about = {"name": encoder.name, "digest": encoder.digest, "precision": cfg.precision}
    failed = writer.finish({"encoder": about, "fewest": fewest._asdict()}, encoder)
    counts = f"{len(plan.images) - len(failed)} images, {len(plan.questions)} questions"
    print(f"{writer.folder}: {counts}, {len(plan.answers)} answers")
    if failed:
        small = {name: len(too_small(split, failed, fewest)) for name, split in splits.items()}
        print(
            f"{len(failed)} images could not be read and are left out. {sum(small.values())} tasks "
            f"fall below {fewest.examples} images or {fewest.answers} answers, and are left out: {small}"
        )


if __name__ == "__main__":
    training.run(main, Config, __doc__)
