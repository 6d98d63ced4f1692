"""What tests of recipes share: loading a recipe as a module, and a data set of random features."""

import importlib.util
import sys

import torch

from weightgen.data.feature_writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa import Task, load_meta_vqa, save_meta_vqa
from weightgen.encoders.embed import names_to_embed


def loaded(root, name):
    spec = importlib.util.spec_from_file_location(name, root / f"recipes/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def save_data(folder, splits=("train", "validation", "test"), question="what color is the {}?", encoder="a"):
    """Two tasks a split, with features of two numbers."""
    tasks = {
        name: [Task(question.format(f"{name} {i}"), ["red", "green"], [f"{i}s{k}" for k in range(4)], [0, 1, 0, 1],
                    [f"{i}q{k}" for k in range(40)], [k % 2 for k in range(40)], "it is {}") for i in range(2)]
        for name in splits
    }  # fmt: skip
    save_meta_vqa(tasks, folder)
    plan = FeaturePlan(encoder, **names_to_embed(load_meta_vqa(folder)), dtype="single")
    writer = FeatureWriter(folder / "features" / "clip", plan)
    writer.begin()
    for kind, number in writer.unfinished():
        writer.write(kind, number, torch.randn(len(plan.shards(kind)[number]), 2))
    writer.finish({"fewest": {"examples": 2, "answers": 2}, "encoder": {}})
    return folder
