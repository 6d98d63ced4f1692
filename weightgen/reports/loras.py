"""What the study of generated low-rank adapters shares: the adapted text tower, its tasks, and adapters as PEFT folders.

Notation: T tasks, P weights of an adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weightgen.data import load_tasks
from weightgen.data.statement_tasks import StatementTasks
from weightgen.encoders.transformers_text import transformers_text_tower
from weightgen.errors import needs
from weightgen.networks import StatementClassifier
from weightgen.storage.files import StrPath
from weightgen.weights import FunctionalNetwork, WeightSpace

ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


class LoraStudy(NamedTuple):
    """What adapters are fitted to and scored on.

    Attributes:
        network: the statement classifier, of which the adapters are generated.
        tasks: by split, with one question for each meaning but in `train`; answers are read alone.
        tower: the folder of the text tower, as `CLIPTextModelWithProjection.from_pretrained` loads it.
    """

    network: FunctionalNetwork
    tasks: dict[str, StatementTasks]
    tower: Path


def open_study(
    dataset: StrPath,
    features: str,
    splits: Sequence[str],
    tower: Path,
    rank: int,
    template: str | None = "{}",
) -> LoraStudy:
    """Put adapters that do nothing yet into the text tower of a data set's CLIP, which is saved where it is not yet."""
    with needs("peft"):
        import peft
    with needs("clip"):
        from transformers import CLIPTextModelWithProjection

    loaded = load_tasks(dataset, *splits, features=features, questions=True)
    clip: Any = loaded[0].store.load_encoder("cpu")
    if not tower.exists():
        transformers_text_tower(clip).save_pretrained(tower)
    base = CLIPTextModelWithProjection.from_pretrained(tower, attn_implementation="eager")
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ATTENTION))
    network = FunctionalNetwork(StatementClassifier(peft.get_peft_model(base, config).eval()), "*.lora_*")
    tasks = {
        name: StatementTasks(part, clip.tokenize, template) for name, part in zip(splits, loaded, strict=True)
    }
    return LoraStudy(network, tasks, tower)


def one_of_each(meanings: Sequence[str]) -> list[int]:
    """The first question of each meaning, by its number."""
    return sorted({meaning: row for row, meaning in reversed(list(enumerate(meanings)))}.values())


def save_adapter(network: FunctionalNetwork, weights: Tensor, folder: Path) -> None:
    """Write an adapter (P,) as a PEFT folder."""
    network.with_weights(weights).text.save_pretrained(folder)  # type: ignore[operator,union-attr]


def load_adapter(network: FunctionalNetwork, tower: Path, folder: Path) -> StatementClassifier:
    """A statement classifier whose text tower `PeftModel.from_pretrained` has put together."""
    from peft import PeftModel
    from transformers import CLIPTextModelWithProjection

    base = CLIPTextModelWithProjection.from_pretrained(tower, attn_implementation="eager")
    adapted = PeftModel.from_pretrained(base, folder)
    return StatementClassifier(adapted.eval(), network.module.logit_scale)  # type: ignore[arg-type]


def as_network(space: WeightSpace, network: FunctionalNetwork, weights: Tensor) -> Tensor:
    """Adapters (*, P) in the order of a zoo of PEFT folders, whose names lack that of the adapter, in the order of the network."""
    found = {
        f"text.{name}".replace(".weight", ".default.weight"): value
        for name, value in space.unflatten(weights).items()
    }
    return network.space.flatten(found)


def fresh_starts(network: FunctionalNetwork, count: int) -> Tensor:
    """Starts (T, P) as `peft` makes them, each drawn anew: A uniform, B = 0."""
    parts = {
        name: torch.zeros(count, *shape)
        if ".lora_B." in name
        else (2 * torch.rand(count, *shape) - 1) * shape[-1] ** -0.5
        for name, shape in network.space.shapes
    }
    return network.space.flatten(parts)


def explained(weights: Tensor, components: Iterable[int]) -> dict[str, float]:
    """The share of the variance of weights (T, P) in their first principal components."""
    variance = torch.linalg.svdvals(weights - weights.mean(dim=0)).square()
    return {str(k): (variance[:k].sum() / variance.sum()).item() for k in components}
