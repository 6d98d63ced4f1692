"""What the study of generated low-rank adapters shares: the adapted text tower, its tasks, and adapters as PEFT folders.

Notation: T tasks, P weights of an adapter.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weightgen.data import load_tasks
from weightgen.data.statement_tasks import StatementTasks
from weightgen.encoders.transformers_text import transformers_text_tower
from weightgen.errors import needs
from weightgen.evaluation import evaluate
from weightgen.metrics import task_accuracy
from weightgen.networks import StatementClassifier
from weightgen.reports.choice import score_chosen
from weightgen.reports.tables import markdown_table, over_seeds, percent, title_of
from weightgen.storage.files import StrPath, read_tensors
from weightgen.weights import FunctionalNetwork, WeightSpace

ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


class LoraStudy(NamedTuple):
    """What adapters are fitted to and scored on.

    Attributes:
        network: the statement classifier, of which the adapters are generated.
        tasks: by split.
        tower: the folder of the text tower, as `CLIPTextModelWithProjection.from_pretrained` loads it.
    """

    network: FunctionalNetwork
    tasks: dict[str, StatementTasks]
    tower: Path

    def one_of_each(self, most: int | None = None) -> LoraStudy:
        """The same with the first question of each meaning alone, and at most so many tasks."""
        kept = {split: part.subset(one_of_each(part.meanings)[:most]) for split, part in self.tasks.items()}
        return self._replace(tasks=kept)


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
    """The first question of each meaning, by its number; all questions whose meaning is not known."""
    rows = {meaning or str(row): row for row, meaning in reversed(list(enumerate(meanings)))}
    return sorted(rows.values())


def save_adapter(network: FunctionalNetwork, weights: Tensor, folder: Path) -> None:
    """Write an adapter (P,) as a PEFT folder."""
    network.with_weights(weights).text.save_pretrained(folder)  # type: ignore[operator,union-attr]


def read_adapter(network: FunctionalNetwork, folder: Path) -> Tensor:
    """The weights (P,) of an adapter in a PEFT folder, in the order of the network."""
    tensors = read_tensors(folder / "adapter_model.safetensors")
    return network.space.flatten({_own(name): value for name, value in tensors.items()})


def _own(name: str) -> str:
    """The name that a parameter in a PEFT folder has in the network."""
    return f"text.{name.removesuffix('.weight')}.default.weight"


def load_adapter(network: FunctionalNetwork, tower: Path, folder: Path) -> StatementClassifier:
    """A statement classifier whose text tower `PeftModel.from_pretrained` has put together."""
    from peft import PeftModel
    from transformers import CLIPTextModelWithProjection

    base = CLIPTextModelWithProjection.from_pretrained(tower, attn_implementation="eager")
    adapted = PeftModel.from_pretrained(base, folder)
    return StatementClassifier(adapted.eval(), network.module.logit_scale)  # type: ignore[arg-type]


def loaded_accuracy(study: LoraStudy, split: str, weights: Tensor, folder: Path) -> float:
    """Mean accuracy of adapters (T, P) of all tasks of a split, each written to a folder and loaded from it by `peft`."""
    found = []
    for row, own in enumerate(weights):
        save_adapter(study.network, own, folder / str(row))
        module = load_adapter(study.network, study.tower, folder / str(row))
        batch = study.tasks[split].batch([row])
        with torch.no_grad():
            logits = module(batch.query.inputs[0], *(value[0] for value in batch.context.values()))
        found.append(task_accuracy(logits, batch.query.labels[0]).item())
    return fmean(found)


class LoraScores:
    """Mean accuracies of adapters by split.

    Args:
        study: whose tasks are scored; the validation split chooses settings.
    """

    def __init__(self, study: LoraStudy) -> None:
        self.study = study

    def same(self, weights: Tensor) -> dict[str, float]:
        """Of one adapter (P,) for all tasks."""
        return {
            split: self._score(split, weights.expand(len(part), -1))
            for split, part in self.study.tasks.items()
        }

    def chosen(
        self, weights_of: Callable[[str, Any], Tensor], settings: Sequence[Any], loaded: bool = False
    ) -> dict[str, Any]:
        """Of an adapter for each task, with the setting that validation tasks choose.

        Args:
            weights_of: (split, setting) → adapters (T, P).
            settings: to choose from.
            loaded: whether those of the other splits are written to disk and scored as `peft` loads them.
        """

        def score(split: str, setting: Any) -> float:
            weights = weights_of(split, setting)
            if split == "validation" or not loaded:
                return self._score(split, weights)
            with tempfile.TemporaryDirectory() as folder:
                return loaded_accuracy(self.study, split, weights, Path(folder))

        return score_chosen(score, self.study.tasks, settings)

    def _score(self, split: str, weights: Tensor) -> float:
        return evaluate(self.study.network, self.study.tasks[split], lambda _, rows: weights[rows]).macro


def as_network(space: WeightSpace, network: FunctionalNetwork, weights: Tensor) -> Tensor:
    """Adapters (*, P) in the order of a zoo of PEFT folders, whose names lack that of the adapter, in the order of the network."""
    return network.space.flatten({_own(name): value for name, value in space.unflatten(weights).items()})


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


def lora_table(rows: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """The report of the study: accuracies by split, and the share of the variance of fitted adapters in a few directions."""
    splits = [split for split in rows["chance"] if split != "validation"]
    cells = [[name, *(percent(row[split]) for split in splits)] for name, row in rows.items()]
    head = f"Accuracy in %, {over_seeds(facts['seeds'])} of the generators.\n\n"
    kinds = facts["variance"]
    counts = list(next(iter(kinds.values())))
    shares = [[f"{name} start", *(percent(kinds[name][k]) for k in counts)] for name in kinds]
    of = "\nVariance of the fitted adapters in their first principal components, in %.\n\n"
    table = markdown_table(["fits", *(f"{k} components" for k in counts)], shares)
    return head + markdown_table(["", *map(title_of, splits)], cells) + of + table
