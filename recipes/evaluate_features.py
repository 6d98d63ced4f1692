"""Baselines on features that know nothing of the task: logistic regression and class means on the episodes of evaluate_episodes.py.

    python recipes/evaluate_features.py data=runs/cifar_fs output=results/cifar_fs/1shot_efficientnet.json
    python recipes/evaluate_features.py run=runs/cifar_fs_1shot_prototypes data=runs/cifar_fs output=...

The features are those of an image tower of timm that was trained on other photos (`tower`), of the learned convolutions of a run
(`run`: a ProtoNet, or a HyperTransformer that writes the logits only), with batch norms on the statistics of all images of the split,
or the centred pixels (`pixels=true`), all of length 1. With its seed the episodes are those of evaluate_episodes. 3 minutes (`tower`).
"""

import copy
import sys
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from weightgen import training
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.encoders.image_tower import ImageTower
from weightgen.errors import InputError, check_range, check_sizes
from weightgen.evaluation.baselines import logistic_regression
from weightgen.hypernets.support_writer import SupportWriter
from weightgen.networks.convnet import side_by_side
from weightgen.reports.tables import interval
from weightgen.storage.files import check_output, write_json


@dataclass
class Config:
    data: str = training.MISSING  # folder of few-shot images
    output: str = training.MISSING  # JSON file to write
    run: str | None = None  # whose convolutions give the features; by default the tower
    pixels: bool = False  # in place of features
    tower: str = "tf_efficientnet_lite0"  # a name of timm
    tower_size: int = 128  # side of its pictures
    split: str = "test"
    ways: int = 5
    shots: int = 1
    queries: int = 5
    episodes: int = 1000
    batch_size: int = 8
    overlap: bool = False
    c: float = 1.0  # inverse strength of the ridge of the regression
    seed: int = 1


def tower_features(cfg: Config, images: np.ndarray) -> Tensor:
    """Features (N, F) of images (N, H, W, 3)."""
    tower = ImageTower.load(cfg.tower, size=cfg.tower_size)
    parts = [images[i : i + 64] for i in range(0, len(images), 64)]
    return torch.cat([tower([Image.fromarray(one) for one in part]) for part in tqdm(parts, desc=cfg.tower)])


@torch.no_grad()
def learned_features(cfg: Config, images: np.ndarray) -> Tensor:
    """What enters the last layer of a run's CNN, (N, F)."""
    hypernet = training.load_module(cfg.run, "hypernet", kind=SupportWriter)
    settings = training.read_facts(cfg.run)["settings"]
    params, network = hypernet.shared_params(1), hypernet.network
    if made := [i for i in range(network.depth) if f"convs.{i}.weight" not in params]:
        raise InputError(f"{cfg.run} generates convolution {made[0]}: expected a run that learns them")
    pixels = (torch.from_numpy(images).movedim(3, 1).float() - settings["mean"]) / settings["std"]
    x = side_by_side(pixels[None])
    for i in range(network.depth):
        x, _ = network.layer(i, x, params)
    return x.flatten(1)


def pixel_features(images: np.ndarray) -> Tensor:
    """The pixels (N, F) less their means."""
    return (pixels := torch.from_numpy(images).flatten(1).float()) - pixels.mean(dim=0)


def guesses(support: Tensor, labels: Tensor, query: Tensor, c: float) -> dict[str, Tensor]:
    """What each baseline says of the queries of one episode."""
    found = logistic_regression(c).fit(support.numpy(), labels.numpy()).predict(query.numpy())
    means = torch.stack([support[labels == k].mean(dim=0) for k in labels.unique()])
    nearest = torch.cdist(query, means).argmin(dim=1)
    return {"logistic regression": torch.from_numpy(found), "class means": nearest}


def main(cfg: Config) -> None:
    if cfg.pixels and cfg.run:
        raise InputError("expected run or pixels, got both: leave one of them out")
    check_range(1e-9, c=cfg.c)
    check_sizes(2, 10**9, episodes=cfg.episodes)
    check_output(cfg.output)
    classes = (arrays := FewShotArrays(cfg.data)).classes(cfg.split)
    rows = np.concatenate([np.arange(arrays.starts[k], arrays.starts[k] + arrays.counts[k]) for k in classes])
    make = pixel_features if cfg.pixels else partial(learned_features if cfg.run else tower_features, cfg)
    features = normalize(make(np.asarray(arrays.images[rows])), dim=1)
    place = torch.zeros(len(arrays.images), dtype=torch.long)
    place[rows] = torch.arange(len(rows))
    numbered = copy.copy(arrays)  # each image is its own number: the episodes say which images they hold
    numbered.images = np.arange(len(arrays.images)).reshape(-1, 1, 1, 1)
    how = training.pick(cfg, "ways", "shots", "queries", "overlap", "batch_size", "seed")
    episodes, right = Episodes(numbered, classes, mean=0.0, std=1.0, **how), {}
    for step in tqdm(range(-(-cfg.episodes // cfg.batch_size)), desc="episodes"):
        support, query = episodes.batch(step)[:2]
        for task in range(min(cfg.batch_size, cfg.episodes - step * cfg.batch_size)):
            seen, asked = (features[place[part.inputs[task].flatten().long()]] for part in (support, query))
            for name, guess in guesses(seen, support.labels[task], asked, cfg.c).items():
                right.setdefault(name, []).append((guess == query.labels[task]).float().mean())
    results = {name: interval(torch.stack(values)) for name, values in right.items()}
    named = "pixels" if cfg.pixels else cfg.run or f"{cfg.tower} at {cfg.tower_size}"
    report = training.pick(cfg, "split", "ways", "shots", "queries", "episodes", "overlap", "c", "seed")
    report |= {"protocol": arrays.protocol, "features": named, "results": results}
    write_json(cfg.output, report | {"command": " ".join(["python", *sys.argv])})
    print(results)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
