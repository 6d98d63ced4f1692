r"""Fit a small sine network to each of 768 pictures of one object: a folder of networks that draw, with a caption for each.

    python recipes/studies/fit_pictures.py output=runs/sines/common

All fits begin at one network, from which a few gradient steps draw any of the pictures (meta-learned; Tancik et al., 2021). With
`common_start=false`, each begins at random weights of its own. `weightgen zoo import` makes a zoo of the output. 5 minutes on a CPU core.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from weightgen import FunctionalNetwork, training
from weightgen.adaptation import gradient_descent
from weightgen.data.scenes.render import render
from weightgen.data.scenes.single import single_objects
from weightgen.networks.sine import SineNetwork, places
from weightgen.storage.files import check_new, write_json, write_tensors, written_beside

SIDE = 32


@dataclass
class Config:
    output: str = training.MISSING  # folder to make
    common_start: bool = True
    most: int | None = None  # pictures; by default all
    held_out: int = (
        100  # of the pictures for the test, and as many for validation; neither is meta-learned from
    )
    start_steps: int = 100  # of meta-learning
    start_batch: int = 24
    start_lr: float = 1e-3
    inner_steps: int = 3
    inner_lr: float = 0.3
    steps: int = 60
    lr: float = 3e-3
    batch_size: int = 128
    seed: int = 0


def pictures(most: int | None) -> tuple[list[str], Tensor]:
    """Captions, and pictures in half size (T, SIDE², 3) in [-1, 1]."""
    found = single_objects()[:most]
    images = [np.asarray(render(scene).reduce(64 // SIDE)) for _, scene in found]
    pixels = torch.from_numpy(np.stack(images)).float().flatten(1, 2)
    return [caption for caption, _ in found], pixels / 127.5 - 1


def meta_learned(cfg: Config, network: FunctionalNetwork, pixels: Tensor) -> Tensor:
    """A start (P,) from which `inner_steps` gradient steps draw any picture well."""
    grid, start = places(SIDE), network.initial_weights.clone().requires_grad_()

    def error(weights: Tensor, picture: Tensor) -> Tensor:
        return (network.single(weights, grid) - picture).square().mean()

    optimizer = torch.optim.Adam([start], lr=cfg.start_lr)
    for _ in range(cfg.start_steps):
        batch = pixels[torch.randint(len(pixels), (cfg.start_batch,))]
        starts = start.expand(cfg.start_batch, -1)
        adapted = gradient_descent(error, starts, batch, steps=cfg.inner_steps, lr=cfg.inner_lr)
        optimizer.zero_grad()
        vmap(error)(adapted, batch).mean().backward()
        optimizer.step()
    return start.detach()


def fitted(cfg: Config, network: FunctionalNetwork, starts: Tensor, pixels: Tensor) -> tuple[Tensor, float]:
    """Weights (B, P) after Adam from starts (B, P), and the mean squared error of what they draw."""
    grid, weights = places(SIDE).expand(len(pixels), -1, -1), starts.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=cfg.lr)
    for step in range(cfg.steps):
        optimizer.param_groups[0]["lr"] = cfg.lr * (1 + math.cos(math.pi * step / cfg.steps)) / 2
        optimizer.zero_grad()
        errors = (network(weights, grid) - pixels).square().mean(dim=(1, 2))
        errors.sum().backward()
        optimizer.step()
    return weights.detach(), errors.mean().item()


def main(cfg: Config) -> None:
    check_new(cfg.output)
    torch.manual_seed(cfg.seed)
    captions, pixels = pictures(cfg.most)
    network, held_out = FunctionalNetwork(SineNetwork()), cfg.held_out
    splits = ["test"] * held_out + ["validation"] * held_out + ["train"] * (len(captions) - 2 * held_out)
    start, errors = network.initial_weights, []
    if cfg.common_start:
        start = meta_learned(cfg, network, pixels[2 * held_out :])
    with written_beside(cfg.output) as partial:
        (partial / "networks").mkdir(parents=True)
        for rows in torch.arange(len(captions)).split(cfg.batch_size):
            fresh = torch.stack([FunctionalNetwork(SineNetwork()).initial_weights for _ in rows])
            starts = start.expand(len(rows), -1) if cfg.common_start else fresh
            weights, error = fitted(cfg, network, starts, pixels[rows])
            errors.append(error)
            print(f"{int(rows[-1]) + 1} of {len(captions)}: mean squared error {error:.4f}", flush=True)
            for row, own in zip(rows.tolist(), weights, strict=True):
                write_tensors(partial / f"networks/{row:04d}.safetensors", network.space.state_dict(own))
        told = [
            {"name": f"{row:04d}", "text": text, "split": splits[row]} for row, text in enumerate(captions)
        ]
        (partial / "texts.jsonl").write_text("\n".join(map(json.dumps, told)), encoding="utf-8")
        facts = {"steps": cfg.steps, "lr": cfg.lr, "squared_error": sum(errors) / len(errors)}
        write_json(Path(partial) / "fits.json", facts)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
