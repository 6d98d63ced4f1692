"""What tests of recipes share: loading a recipe as a module, and a data set of random features."""

import importlib.util
import sys

import torch

from weightgen.data.features.embed import names_to_embed
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.data.zoo import ZooWriter
from weightgen.encoders.load import load_encoder


def loaded(root, name):
    """The recipe of this name, which may hold a folder: studies/score_methods."""
    path = root / f"recipes/{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def save_data(
    folder,
    splits=("train", "validation", "test"),
    question="what color is the {}?",
    encoder="a",
    clip=None,
    tasks=2,
):
    """A few tasks a split, with random features of two numbers; texts as the encoder in the folder `clip` sees them, if there is one."""
    rows = {
        name: [Task(question.format(f"{name} {i}"), ["red", "green"], [f"{i}s{k}" for k in range(4)], [0, 1, 0, 1],
                    [f"{i}q{k}" for k in range(40)], [k % 2 for k in range(40)], "it is {}") for i in range(tasks)]
        for name in splits
    }  # fmt: skip
    save_meta_vqa(rows, folder)
    tower = load_encoder(clip) if clip else None
    plan = FeaturePlan(
        tower.digest if tower else encoder, **names_to_embed(load_meta_vqa(folder)), dtype="single"
    )
    writer = FeatureWriter(folder / "features" / "clip", plan)
    writer.begin()
    for kind, number in writer.unfinished():
        names = plan.shards(kind)[number]
        texts = tower is not None and kind != "images"
        dim = tower.image_dim if tower else 2
        writer.write(kind, number, tower.encode_texts(names) if texts else torch.randn(len(names), dim))
    writer.finish({"fewest": {"examples": 2, "answers": 2}}, tower)
    return folder


def fill_zoo(folder, space, weights):
    """Put a zoo of weights (R, T, P) into the output of adapt_tasks that a test makes up."""
    writer = ZooWriter(folder, space)
    for draw, rows in enumerate(weights):
        writer.append(rows, range(len(rows)), [draw] * len(rows))
    writer.finish(folder)
