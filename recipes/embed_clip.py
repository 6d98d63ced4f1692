"""Embed the images, questions and answers of a Meta-VQA data set with CLIP, once.

    accelerate launch recipes/embed_clip.py dataset=OUT images=DIR model=ViT-L-14-336 pretrained=openai

Writes `<dataset>/features/<name>/`, which training reads memory-mapped (`weightgen.data.meta_vqa.tasks`).
`images` is a folder as COCO unpacks it, a flat one, or zip files. Started again after a kill, it goes on
after the last finished shard. On 2 busy CPU cores 12,000 images of 64 x 64 take a small CLIP 20 seconds, and
640 x 480 JPEGs go through ViT-B-32 at 8 a second, nine tenths of what the model alone does.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from omegaconf import MISSING
from tqdm import tqdm

from weightgen.data.features.embed import embed_images, embed_texts, names_to_embed
from weightgen.data.features.images import ImageStore
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa.disk import FACTS, load_meta_vqa
from weightgen.data.meta_vqa.unreadable import Fewest, too_small
from weightgen.encoders.clip import ImageTextEncoder
from weightgen.encoders.load import load_clip
from weightgen.errors import InputError, one_line_errors
from weightgen.storage.files import read_json, write_json
from weightgen.training.config import build, parse


@dataclass
class Config:
    """What is embedded, by what, and how."""

    dataset: str = MISSING  # folder that data/meta_vqa/prepare.py wrote
    images: str = MISSING  # folder or zip file
    model: str | None = None  # an open_clip name, or the folder of a CLIP
    pretrained: str | None = None  # the tag of a name's weights
    random_weights: bool = False  # a named model untrained, to try things out
    encoder: dict[str, Any] | None = None  # in place of model: {_component_: my.module.Encoder, ...}
    name: str | None = None  # of the features; by default that of the model and its weights
    batch_size: int = 64
    workers: int | None = None  # threads of a process; by default its share of the CPUs
    precision: str = "fp32"  # of the computation: fp32, fp16, bf16
    dtype: str = "single"  # on disk: single, half
    preprocess: str = "center-crop"  # the model's own; or squash, as the authors of HyperCLIP
    on_error: str = "stop"  # skip: leave out images that cannot be read
    shard_size: int = 4096
    overwrite: bool = False


def make_encoder(config: Config, device: Any) -> tuple[Any, str]:
    if (config.model is None) == (config.encoder is None):
        raise InputError("give one of model=... and encoder={_component_: ...}")
    if config.encoder is not None:
        encoder = build(config.encoder, ("",))  # any module: it is the user's own
        if not isinstance(encoder, ImageTextEncoder):
            raise InputError("the encoder lacks a method: expected encode_images and encode_texts")
        name = config.name or getattr(encoder, "name", None)
        if not name:
            raise InputError("the encoder has no attribute `name`: say name=... for the features")
        return encoder, name
    assert config.model is not None
    clip = load_clip(
        config.model,
        config.pretrained,
        device=device,
        precision=config.precision,
        random_weights=config.random_weights,
        preprocess=config.preprocess,
    )
    return clip, config.name or clip.name


def stop(writer: FeatureWriter, failed: dict[str, str]) -> None:
    missing = sum(reason == "missing" for reason in failed.values())
    path = writer.partial / "failed.json"
    write_json(path, failed)
    name, reason = min(failed.items())
    raise InputError(
        f"of {len(writer.plan.images)} images {missing} are missing and {len(failed) - missing} broken, "
        f"for example {name} ({reason}); all are listed in {path}. "
        "Put them in place, or leave them out with on_error=skip"
    )


def report(writer: FeatureWriter, failed: dict[str, str], splits: Any, fewest: Fewest) -> None:
    plan = writer.plan
    embedded = f"{len(plan.images) - len(failed)} images, {len(plan.questions)} questions"
    print(f"{writer.folder}: {embedded}, {len(plan.answers)} answers")
    if failed:
        small = {name: len(too_small(split, failed, fewest)) for name, split in splits.items()}
        print(
            f"{len(failed)} images could not be read and are left out. {sum(small.values())} tasks "
            f"fall below {fewest.examples} images or {fewest.answers} answers, and are left out: {small}"
        )


def main(config: Config) -> None:
    if config.on_error not in ("stop", "skip"):
        raise InputError(f"unknown on_error {config.on_error!r}: choose stop or skip")
    accelerator = Accelerator()
    splits = load_meta_vqa(config.dataset)
    names = names_to_embed(splits)
    store = ImageStore(config.images)
    encoder, name = make_encoder(config, accelerator.device)
    identity = f"{getattr(encoder, 'digest', name)} {config.precision}"
    plan = FeaturePlan(
        identity, **names, dtype=config.dtype, batch_size=config.batch_size, shard_size=config.shard_size
    )
    writer = FeatureWriter(Path(config.dataset) / "features" / name, plan, config.overwrite)
    with accelerator.main_process_first():
        if not writer.begin():
            accelerator.print(f"{writer.folder} is there already")
            return
    skip = config.on_error == "skip"
    missing = {name: "missing" for name in plan.images if name not in store}
    if missing and not skip:
        stop(writer, missing)

    left = writer.unfinished()
    accelerator.wait_for_everyone()
    mine = left[accelerator.process_index :: accelerator.num_processes]
    workers = config.workers or max(1, (os.cpu_count() or 1) // accelerator.num_processes)
    embed_texts(writer, encoder, [shard for shard in mine if shard[0] != "images"], workers)
    numbers = [number for kind, number in mine if kind == "images"]
    total = sum(len(plan.shards("images")[number]) for number in numbers)
    with tqdm(total=total, desc="images", disable=not accelerator.is_local_main_process) as bar:
        embed_images(writer, encoder, store, numbers, workers=workers, skip_broken=skip, progress=bar.update)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    if failures := writer.failures():
        stop(writer, failures)
    rules = read_json(Path(config.dataset) / FACTS).get("rules") or {}
    fewest = Fewest(rules.get("min_examples", 21), rules.get("min_answers", 2))
    facts = {
        key: getattr(config, key)
        for key in ("model", "pretrained", "random_weights", "encoder", "preprocess")
    }
    failed = writer.finish({"encoder": {"name": name, **facts}, "fewest": fewest._asdict()})
    report(writer, failed, splits, fewest)


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
