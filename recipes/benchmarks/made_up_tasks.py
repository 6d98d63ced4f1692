"""Made-up tasks with random features, as many as one likes: what the study of memory trains on.

All tasks share their pictures, so that the features do not grow with their number, as the weights do.
"""

from pathlib import Path

import torch

from weightgen.data.features.embed import names_to_embed
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.encoders.load import load_encoder
from weightgen.training.trials import save_small_clip

PICTURES, ANSWERS, EXAMPLES = 240, 10, 4


def make_tasks(folder: Path, tasks: int, embed_dim: int) -> None:
    """Write `folder`/clip, a CLIP of random weights, and `folder`/data, so many training tasks with features."""
    torch.manual_seed(0)
    save_small_clip(folder / "clip", embed_dim)
    counts = {"train": tasks, "validation": 8, "test": 8}
    splits = {name: [_task(name, number) for number in range(count)] for name, count in counts.items()}
    save_meta_vqa(splits, folder / "data")
    tower = load_encoder(folder / "clip")
    plan = FeaturePlan(tower.digest, dtype="single", **names_to_embed(load_meta_vqa(folder / "data")))
    writer = FeatureWriter(folder / "data/features/clip", plan)
    writer.begin()
    for kind, number in writer.unfinished():
        names = plan.shards(kind)[number]
        writer.write(kind, number, torch.randn(len(names), embed_dim))
    writer.finish({"fewest": {"examples": 2, "answers": 2}}, tower)


def _task(split: str, number: int) -> Task:
    pictures = [f"{(number * 7 + k) % PICTURES}.png" for k in range(2 * EXAMPLES)]
    answers = [f"answer {(number + k) % ANSWERS}" for k in range(2)]
    labels = [k % 2 for k in range(EXAMPLES)]
    question = f"what is the {split} question of number {number}?"
    return Task(question, answers, pictures[:EXAMPLES], labels, pictures[EXAMPLES:], labels, "it is {}")
