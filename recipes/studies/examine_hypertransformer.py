"""What a HyperTransformer writes: how much its weights vary between episodes, and what its last layer attends to.

    python recipes/studies/examine_hypertransformer.py model=omniglot-8ch-1shot data=runs/omniglot_random \
        output=results/omniglot/examined.json

`variation`, for each generated parameter: ‖W − W̄‖ / ‖W̄‖, the root mean square over episodes, where W̄ is the mean over episodes (for the
last layer it says little, as classes change their slots). `likeness`, for each generated convolution: the mean correlation between the
kernels of two output channels; with 1 all channels compute the same. `accuracy`, in %, of the CNNs with the convolutions written for their
episode, and with those written for another one: whether it matters that they vary. `attention`, for each block of the transformer that
writes the last layer: the shares that the placeholder of a class gives to samples of its class, to other samples, and to placeholders,
means over heads and episodes; `even` is what equal shares would be. Zhmoginov et al., 2022: section 5. 10 seconds.
"""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from weightgen import training
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.errors import check_sizes
from weightgen.pipelines.picture_hypernet import PictureHypernet
from weightgen.reports.examined import accuracies, attended, likeness_of, shares_of, variation_of, watch
from weightgen.storage.files import write_json


@dataclass
class Config:
    model: str = training.MISSING  # output of train_hypertransformer, or the name of a shipped model
    data: str = training.MISSING  # folder of few-shot images
    output: str = training.MISSING  # JSON file to write
    split: str = "test"
    shots: int = 1
    queries: int = 5  # per class
    episodes: int = 200
    batch_size: int = 20
    seed: int = 1


@torch.no_grad()
def main(cfg: Config) -> None:
    check_sizes(2, batch_size=cfg.batch_size)  # the convolutions of one go to another
    model = PictureHypernet.load(cfg.model)
    hypernet, arrays = model.hypernet.eval(), FewShotArrays(cfg.data)
    network = hypernet.network
    episodes = Episodes(arrays, arrays.classes(cfg.split), ways=network.num_classes, mean=model.scale.mean, std=model.scale.std,
                        **training.pick(cfg, "shots", "queries", "batch_size", "seed"))  # fmt: skip
    blocks = hypernet.generators[str(network.depth)].transformer.encoder
    seen: list[dict[str, list[Tensor]]] = [{} for _ in blocks]
    watch(blocks, seen)
    written: dict[str, list[Tensor]] = {}
    labels, right = [], []
    for step in range(-(-cfg.episodes // cfg.batch_size)):
        batch = episodes.batch(step)
        params = hypernet.generate(batch.support).params
        for name, value in params.items():
            written.setdefault(name, []).append(value)
        labels.append(batch.support.labels)
        right.append(accuracies(network, params, batch.query))
    own, swapped = (100 * torch.cat(right, dim=1)).mean(dim=1).tolist()
    kernels = {name: torch.cat(values) for name, values in written.items() if values[0].dim() == 5}
    variation = {name: variation_of(torch.cat(values)) for name, values in written.items()}
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
              "accuracy": {"own convolutions": round(own, 2), "convolutions of another episode": round(swapped, 2)},
              "attention": attention, "even": even, **training.pick(cfg, "split", "shots", "queries", "episodes", "seed")}  # fmt: skip
    write_json(cfg.output, report | {"command": " ".join(["python", *sys.argv])})
    print(report)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
