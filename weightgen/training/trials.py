"""Every training recipe on tiny data: what studies of several processes, kills and memory run. For recipes only."""

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from weightgen.data.features.embed import names_to_embed
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.encoders.clip_folder import new_clip, save_clip
from weightgen.encoders.load import load_encoder
from weightgen.errors import InputError
from weightgen.training.config import parse

WORDS = [
    "[PAD]",
    "[UNK]",
    "[BOS]",
    *"what is the a of star moon red green blue ring dot left right big small".split(),
    "[EOS]",
]
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": len(WORDS), "width": 16, "heads": 2, "layers": 1},
}
TASKS = {"train": 7, "validation": 4, "test": 4}  # 7 in batches of 4: a batch of 4 and one of 3
SUPPORT, QUERY = 8, 12  # examples of a task

HNET = {"_component_": "weightgen.hypernets.HNet", "hidden_dims": [16], "spread": 0.3}
SMALL = {"steps": 12, "batch_size": 4, "validate_every": 2, "lr": 0.01}
LATENT = {
    "start": "@multitask",
    "inner_variable": "latents",
    "min_inner_steps": 1,
    "max_inner_steps": 3,
    "inner_lr": 0.1,
    "validate_inner_steps": 2,
}
MAML = {"min_inner_steps": 1, "max_inner_steps": 3, "inner_lr": 0.1, "validate_inner_steps": 2}
EPISODES = {"ways": 3, "queries": 2, "unlabeled": 1, "hide": 0.5, "hide_steps": 8, "warmup": 1, "decay_steps": 4, "validation_episodes": 4,
            "validation_queries": 2, "min_shots": 1, "shots": 2}  # fmt: skip

# Name of a run: recipe, settings. What begins with "@" is the output of an earlier run.
TRIALS: dict[str, tuple[str, dict[str, Any]]] = {
    "embed": ("embed", {"model": "@clip", "images": "@images", "dataset": "@bare", "batch_size": 4, "shard_size": 16}),
    "multitask": ("train_hypernet", {"network.hidden_dim": 6, **SMALL, "lr": 0.05}),
    "maml": ("train_hypernet", {"start": "@multitask", **MAML, **SMALL}),
    "maml_checkpointed": ("train_hypernet", {"start": "@multitask", "checkpoint_steps": True, **MAML, **SMALL}),
    "fomaml": ("train_hypernet", {"start": "@multitask", "first_order": True, **MAML, **SMALL}),
    "hnet_maml": ("train_hypernet", {"hypernet": HNET | {"latent_dim": 5, "input_noise": 0.1}, **LATENT, **SMALL}),
    "conditional_hnet_maml": ("train_hypernet", {"hypernet": HNET, **LATENT, **SMALL}),
    "conditional": ("train_hypernet", {"start": "@multitask", "hypernet": HNET | {"input_noise": 0.3}, **SMALL}),
    "film": ("train_hypernet", {"start": "@multitask", "hypernet": {"_component_": "weightgen.hypernets.FiLM"}, **SMALL}),
    "support": ("train_support", {"start": "@multitask", "hypernet": {"dim": 8, "rounds": 2, "embed_dim": 4, "input_noise": 0.1}, **SMALL}),
    "adapted": ("adapt_tasks", {"start": "@multitask", "draws": 4, "steps": [4], "lrs": [0.03], "batch_size": 4}),
    "adapted_latents": ("adapt_tasks", {"start": "@hnet_maml", "inner_variable": "latents", "draws": 4, "steps": [2], "lrs": [0.01],
                                        "batch_size": 4}),
    "hvae": ("train_hvae", {"adapted": "@adapted", "hypernet": {"latent_dim": 3, "hidden_dims": [16, 8], "linear": False},
                             "function_weight": 1.0, "kl_weight": 0.01, **SMALL, "lr": 0.03, "steps": 24}),
    "hyperclip": ("train_hyperclip", {"adapted": "@adapted", "hvae": "@hvae", "encoder.standardize": True, "encoder.noise": 0.1, **SMALL,
                                      "batch_size": 5}),
    "hyperldm": ("train_hyperldm", {
        "adapted": "@adapted", "hvae": "@hvae", "support": "@support", "denoiser.hidden_dims": [16], "scheduler.prediction_type": "sample",
        "function_weight": 1.0, "function_tasks": 3, "support_draws": 2, "sampling.num_inference_steps": 2, "validate_shots": 1, **SMALL,
        "batch_size": 9}),
    "hyperldm_latents": ("train_hyperldm", {"adapted": "@adapted_latents", "denoiser.hidden_dims": [16], **SMALL}),
    "hypertransformer": ("train_hypertransformer", {
        "network.channels": 4, "network.depth": 2, "hypernet.layers": 1, **EPISODES, **SMALL}),
}  # fmt: skip


def make_trial_data(folder: Path) -> None:
    """Write a CLIP, pictures, tasks with features and without, and few-shot images, all from fixed seeds."""
    if folder.exists():
        return
    torch.manual_seed(0)
    save_small_clip(folder / "clip")
    draws = np.random.default_rng(0)
    splits = {name: list(_tasks(name, count)) for name, count in TASKS.items()}
    for part in ("data", "bare"):
        save_meta_vqa(splits, folder / part)
    _write_features(folder)
    (folder / "images").mkdir()
    for task in (task for tasks in splits.values() for task in tasks):
        for name in (*task.support_images, *task.query_images):
            Image.fromarray(draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
                folder / "images" / name
            )
    looks = draws.integers(0, 256, (12, 1, 14, 14))
    images = (
        np.clip(looks + draws.normal(0, 40, (12, 10, 14, 14)), 0, 255).astype(np.uint8).reshape(120, 14, 14)
    )
    classes = {"train": range(6), "validation": range(6, 12), "test": range(9, 12)}
    write_few_shot_arrays(
        folder / "few", images, np.repeat(np.arange(12), 10), list("abcdefghijkl"), classes, {}
    )


def command(root: Path, folder: Path, name: str, output: Path, **more: Any) -> list[str]:
    """The words that run a trial: the recipe and its settings.

    Args:
        root: of the repository.
        folder: of the data and of earlier outputs.
        name: of the trial.
        output: where it writes.
        **more: further settings.
    """
    recipe, settings = TRIALS[name]
    given: dict[str, Any] = (
        {"data": folder / "few"} if recipe == "train_hypertransformer" else {"dataset": folder / "data"}
    )
    if recipe == "embed":
        more = {}
        given = {"name": output.name}
    else:
        given["output"] = output
    words = {**given, **settings, **more}
    return [
        str(root / f"recipes/{recipe}.py"),
        *(f"{key}={_text(value, folder)}" for key, value in words.items()),
    ]


def environment() -> dict[str, str]:
    """Of a process on the CPU with one thread."""
    return {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def output_of(folder: Path, name: str, kind: str) -> Path:
    """Where a trial writes; features lie in the data set that they are of."""
    return (folder / "bare/features" if name == "embed" else folder) / f"{name}{kind}"


def load_recipe(path: str) -> Any:
    """A recipe as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run_recipe(words: Sequence[str]) -> None:
    """Run a recipe with its settings in this process."""
    module = load_recipe(words[0])
    sys.argv = list(words)
    module.main(parse(module.Config, module.__doc__))


def _text(value: Any, folder: Path) -> str:
    if isinstance(value, str) and value.startswith("@"):
        return str(folder / value[1:])
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(part, folder)}" for key, part in value.items()) + "}"
    return str(value).replace("'", "").replace("None", "null")


def _tasks(split: str, count: int) -> Iterator[Task]:
    words = WORDS[5:-1]
    for number in range(count):
        offset = {"train": 0, "validation": 7, "test": 11}[split] + number
        question = f"what is the {words[offset % len(words)]} of {words[offset * 5 % len(words)]}"
        answers = [words[(offset * 3 + 1) % len(words)], words[(offset * 3 + 2) % len(words)]]
        names = [f"{split}_{number}_{k}.png" for k in range(SUPPORT + QUERY)]
        labels = [k % 2 for k in range(SUPPORT + QUERY)]
        yield Task(
            question, answers, names[:SUPPORT], labels[:SUPPORT], names[SUPPORT:], labels[SUPPORT:], "a {}"
        )


def save_small_clip(folder: Path, embed_dim: int = 24) -> None:
    """Save a CLIP of random weights, with embeddings of so many numbers."""
    config = CLIP | {"embed_dim": embed_dim}
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[BOS]", 2), ("[EOS]", len(WORDS) - 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    save_clip(new_clip(config, tokenizer).eval(), config, tokenizer, folder)


def _write_features(folder: Path) -> None:
    """Features of pictures that a linear map takes to the embedding of their answer, with noise."""
    tower, splits = load_encoder(folder / "clip"), load_meta_vqa(folder / "data")
    plan = FeaturePlan(tower.digest, dtype="single", **names_to_embed(splits))  # type: ignore[arg-type]
    writer = FeatureWriter(folder / "data/features/clip", plan)
    writer.begin()
    turned = torch.linalg.qr(torch.randn(tower.image_dim, tower.image_dim))[0]
    seen: dict[str, Tensor] = {}
    for rows in splits.values():
        for row in rows:
            texts = tower.encode_texts([row["template"].format(answer) for answer in row["answers"]])
            texts = (texts - texts.mean(dim=0)) @ turned
            for part in ("support", "query"):
                for name, label in zip(row[f"{part}_images"], row[f"{part}_labels"], strict=True):
                    noise = 0.3 * texts.std() * torch.randn(tower.image_dim)
                    seen[name] = texts[label] + noise
    for kind, number in writer.unfinished():
        names = plan.shards(kind)[number]
        found = torch.stack([seen[name] for name in names]) if kind == "images" else tower.encode_texts(names)
        writer.write(kind, number, found)
    writer.finish({"fewest": {"examples": 2, "answers": 2}}, tower)
