"""What a HyperTransformer writes: how much its weights vary between episodes, and what its last layer attends to.

    python recipes/studies/examine_hypertransformer.py model=omniglot-8ch-1shot data=runs/omniglot_random \
        output=results/omniglot/examined.json

`variation`, for each generated parameter: ‖W − W̄‖ / ‖W̄‖, the root mean square over episodes, where W̄ is the mean over episodes (for the
last layer it says little, as classes change their slots). `likeness`, for each generated convolution: the mean correlation between the
kernels of two output channels; with 1 all channels compute the same. `attention`, for each block of the transformer that writes the last
layer: the shares that the placeholder of a class gives to samples of its class, to other samples, and to placeholders, means over heads
and episodes; `even` is what equal shares would be. Zhmoginov et al., 2022: section 5. 10 seconds.
"""

import math
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from weightgen import training
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.nn.set_transformer import Attention
from weightgen.pipelines.picture_hypernet import PictureHypernet
from weightgen.storage.files import write_json


@dataclass
class Config:
    model: str = training.MISSING  # output of train_hypertransformer, or the name of a shipped model
    data: str = training.MISSING  # folder of few-shot images
    output: str = training.MISSING  # JSON file to write
    split: str = "test"
    shots: int = 1
    episodes: int = 200
    batch_size: int = 20
    seed: int = 1


def attended(attention: Attention, query: Tensor, key: Tensor) -> Tensor:
    """Shares (B, heads, T, S) of projected tokens."""
    query, key = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in (query, key))
    return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)


def watch(blocks: Any, seen: list[dict[str, list[Tensor]]]) -> None:
    """Keep what the projections of each block return."""
    for block, parts in zip(blocks, seen, strict=True):
        for name in ("query", "key"):
            hook = partial(lambda kept, module, given, made: kept.append(made), parts.setdefault(name, []))
            getattr(block.attention, name).register_forward_hook(hook)


def shares_of(weights: Tensor, labels: Tensor, slots: int) -> dict[str, float]:
    """Where the attention of the placeholders goes; `weights` (B, heads, T, S), placeholders first."""
    rows = weights[:, :, :slots].mean(dim=1)  # (B, classes, S)
    own = (labels[:, None] == torch.arange(slots)[:, None]).float()  # (B, classes, samples)
    same, samples = (rows[:, :, slots:] * own).sum(-1), rows[:, :, slots:].sum(-1)
    parts = {"own class": same, "other samples": samples - same, "placeholders": rows[:, :, :slots].sum(-1)}
    return {name: round(value.mean().item(), 4) for name, value in parts.items()}


def likeness_of(kernels: Tensor) -> float:
    """Mean correlation between the output channels of kernels (B, channels, ...)."""
    rows = kernels.flatten(2)
    rows = torch.nn.functional.normalize(rows - rows.mean(dim=2, keepdim=True), dim=2)
    channels = rows.shape[1]
    return round(((rows @ rows.mT).sum(dim=(1, 2)).mean().item() - channels) / (channels * (channels - 1)), 4)


@torch.no_grad()
def main(cfg: Config) -> None:
    model = PictureHypernet.load(cfg.model)
    hypernet, arrays = model.hypernet.eval(), FewShotArrays(cfg.data)
    network = hypernet.network
    episodes = Episodes(arrays, arrays.classes(cfg.split), ways=network.num_classes, mean=model.scale.mean, std=model.scale.std,
                        **training.pick(cfg, "shots", "batch_size", "seed"))  # fmt: skip
    blocks = hypernet.generators[str(network.depth)].transformer.encoder
    seen: list[dict[str, list[Tensor]]] = [{} for _ in blocks]
    watch(blocks, seen)
    written: dict[str, list[Tensor]] = {}
    labels = []
    for step in range(-(-cfg.episodes // cfg.batch_size)):
        support = episodes.batch(step).support
        for name, value in hypernet.generate(support).params.items():
            written.setdefault(name, []).append(value)
        labels.append(support.labels)
    kernels = {name: torch.cat(values) for name, values in written.items() if values[0].dim() == 5}
    variation = {}
    for name, values in written.items():
        weights = torch.cat(values).flatten(1)
        mean = weights.mean(dim=0)
        variation[name] = round(((weights - mean).square().sum(1).mean().sqrt() / mean.norm()).item(), 4)
    attention = []
    for block, parts in zip(blocks, seen, strict=True):
        query, key = (torch.cat(parts[name]) for name in ("query", "key"))
        attention.append(
            shares_of(attended(block.attention, query, key), torch.cat(labels), network.num_classes)
        )
    count = network.num_classes * (1 + cfg.shots)
    others = (network.num_classes - 1) * cfg.shots / count
    even = {
        "own class": cfg.shots / count,
        "other samples": others,
        "placeholders": network.num_classes / count,
    }
    report = {"model": model.name, "protocol": arrays.protocol, "variation": {n: v for n, v in variation.items() if v > 0},
              "likeness": {name: likeness_of(one) for name, one in kernels.items() if variation[name] > 0},
              "attention": attention, "even": even, **training.pick(cfg, "split", "shots", "episodes", "seed")}  # fmt: skip
    write_json(cfg.output, report | {"command": " ".join(["python", *sys.argv])})
    print(report)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
