"""What runs have saved, loaded by the classes that they name. For recipes only.

Notation: R draws, T tasks, P weights, Z latent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from weightgen.adaptation import fine_tune
from weightgen.errors import InputError
from weightgen.nn import large
from weightgen.storage.files import StrPath, read_json, read_tensors
from weightgen.storage.hub import class_named, load_part
from weightgen.tasks import TaskBatch
from weightgen.weights import FunctionalNetwork

FACTS = ("training.json", "adapted.json")


def read_facts(folder: StrPath) -> dict[str, Any]:
    """The facts of a run, with the class of each of its modules.

    Raises:
        InputError: `folder` is not the output of a run.
    """
    for name in FACTS:
        if (Path(folder) / name).is_file():
            facts = read_json(Path(folder) / name)
            if isinstance(facts, dict):
                return facts
    raise InputError(f"{folder} is not the output of a training recipe: it has neither {' nor '.join(FACTS)}")


def check_same(folder: StrPath, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to begin at the model of another run with other settings.

    Args:
        folder: the output of the other run.
        before: the settings of its model.
        now: the settings of this run's model.

    Raises:
        InputError: naming a setting that differs.
    """
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise InputError(
                f"the model of {folder} has {name}={before.get(name)}, and the settings say {now.get(name)}"
            )


def load_module(
    folder: StrPath, name: str, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> Any:
    """Load the module `name` of a run, frozen and in evaluation mode.

    Raises:
        InputError: the run has no such module, or it is damaged, or of a class that is not weightgen's.
    """
    kind = read_facts(folder).get(name)
    if not isinstance(kind, str):
        raise InputError(f"{folder} has no {name}: it is the output of another recipe than is needed here")
    module: nn.Module = load_part(class_named(kind, trust_remote_code), Path(folder) / name)
    return module.to(device).requires_grad_(False)


def load_run(
    folder: StrPath, device: torch.device | str = "cpu", trust_remote_code: bool = False
) -> tuple[FunctionalNetwork, Any]:
    """Load the base network and the hypernetwork of a run.

    Raises:
        InputError: see `load_module`.
    """
    network = load_module(folder, "network", device, trust_remote_code)
    hypernet = load_module(folder, "hypernet", device, trust_remote_code)
    return FunctionalNetwork.of_space(network, hypernet.space), hypernet


@dataclass
class AdaptedTasks:
    """The output of adapt_tasks. Everything is read when it is first used.

    Args:
        folder: the output.
        facts: what `adapted.json` says.
        device: where tensors and modules lie.
        trust_remote_code: whether classes may be others than weightgen's.
    """

    folder: Path
    facts: dict[str, Any]
    device: torch.device | str = "cpu"
    trust_remote_code: bool = False

    @classmethod
    def load(
        cls, folder: StrPath, device: torch.device | str = "cpu", trust_remote_code: bool = False
    ) -> Self:
        """Open the output of adapt_tasks.

        Raises:
            InputError: it is something else.
        """
        facts = read_facts(folder)
        if not {"steps", "lr", "inner_variable"} <= facts.keys():
            raise InputError(f"{folder} is not the output of adapt_tasks")
        return cls(Path(folder), facts, device, trust_remote_code)

    @property
    def steps(self) -> int:
        """Gradient steps of each task."""
        return int(self.facts["steps"])

    @property
    def lr(self) -> float:
        """Their size."""
        return float(self.facts["lr"])

    @cached_property
    def network(self) -> FunctionalNetwork:
        """The base network."""
        module = load_module(self.folder, "network", self.device, self.trust_remote_code)
        return FunctionalNetwork.of_space(module, self.hypernet.space)

    @cached_property
    def hypernet(self) -> Any:
        """The hypernetwork at which adaptation started."""
        return load_module(self.folder, "hypernet", self.device, self.trust_remote_code)

    @cached_property
    def weights(self) -> Tensor:
        """Adapted weights, with shape (R, T, P).

        Raises:
            InputError: only latents were kept.
        """
        return self._tensor("weights", "run adapt_tasks with keep_weights=true")

    @cached_property
    def latents(self) -> Tensor:
        """Adapted latents, with shape (R, T, Z).

        Raises:
            InputError: weights were adapted.
        """
        return self._tensor("latents", "give hvae=..., or run adapt_tasks with inner_variable=latents")

    def adapt(self, batch: TaskBatch) -> Tensor:
        """Weights (B, P) of other tasks, adapted in the same way: by as many gradient steps, or in one pass.

        Raises:
            InputError: adaptation diverges.
        """
        if self.facts.get("support"):
            writer = load_module(self.folder, "support", self.device, self.trust_remote_code)
            return writer(batch.support, batch.context["answers"])
        how = {"steps": self.steps, "lr": self.lr, "inner_variable": self.facts["inner_variable"]}
        with torch.no_grad():
            return fine_tune(self.network, self.hypernet, batch, **how)

    def posterior(self, hvae: str | None) -> tuple[Any, Tensor, Tensor]:
        """What decodes latents, and the mean and standard deviation of the latent of each draw of each task.

        Args:
            hvae: output of train_hvae; by default latents are those that were adapted, without any deviation.

        Returns:
            The hypernetwork, and two tensors with shape (R, T, Z).

        Raises:
            InputError: there are weights where latents are needed, or the reverse.
        """
        if hvae is None:
            return self.hypernet, self.latents, torch.zeros_like(self.latents)
        weights = self.weights
        decoder = load_module(hvae, "hypernet", self.device, self.trust_remote_code)
        if weights.numel() <= large.LARGE:
            found = decoder.encode(weights)
            return decoder, found.mean, found.stddev
        parts = [decoder.encode(batch) for batch in large.in_batches(weights.flatten(0, 1))]
        shape = (*weights.shape[:2], -1)
        mean, std = (torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "stddev"))
        return decoder, mean.reshape(shape), std.reshape(shape)

    def _tensor(self, name: str, advice: str) -> Tensor:
        tensors = read_tensors(self.folder / "adapted.safetensors")
        if name not in tensors:
            raise InputError(f"{self.folder} has no {name}, only {', '.join(tensors)}: {advice}")
        return tensors[name].to(self.device)
