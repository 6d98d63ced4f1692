"""The output of adapt_tasks: how it is written while tasks are adapted, and read. For recipes only.

It is a zoo of weights (`weightgen.data.zoo`), with the networks and the facts beside it; of an HNet also `latents.safetensors`.

Notation: R draws, T tasks, B rows, P weights, Z latent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from weightgen.adaptation import fine_tune
from weightgen.data.zoo import Zoo, ZooWriter
from weightgen.data.zoo.encoding import encode_zoo
from weightgen.errors import InputError
from weightgen.evaluation import evaluate, zero_shot
from weightgen.storage.files import StrPath, read_tensors, write_tensors
from weightgen.tasks import TaskBatch
from weightgen.training.runs import Run
from weightgen.training.saved import load_module, read_facts
from weightgen.weights import FunctionalNetwork, WeightSpace

LATENTS = "latents.safetensors"


class AdaptedWriter:
    """What `adapt_tasks` has adapted so far: weights go to disk shard by shard, latents are small and kept.

    Args:
        run: the run, whose main process writes.
        space: of the network.
        shape: (R, T, Z) where latents are adapted, (R, T) where weights are.
        dtype: of the weights, "float32" or "float16".

    Raises:
        InputError: too little room on the disk.
    """

    def __init__(self, run: Run, space: WeightSpace, shape: Sequence[int], dtype: str = "float32") -> None:
        self.run, self.space, self.dtype = run, space, dtype
        self.latents = torch.full(tuple(shape), torch.nan) if len(shape) == 3 else None
        self.zoo = ZooWriter(run.folder / "zoo", space, dtype)
        if self.latents is None and run.accelerator.is_main_process:
            self.zoo.check_room(shape[0] * shape[1])

    def append(self, draw: int, tasks: Sequence[int], points: Tensor) -> None:
        """Take the adapted weights (B, P) or latents (B, Z) of one draw of some tasks."""
        if self.latents is not None:
            self.latents[draw, list(tasks)] = points
        elif self.run.accelerator.is_main_process:
            self.zoo.append(points, tasks, [draw] * len(tasks))

    def state_dict(self) -> dict[str, Tensor]:
        """For checkpoints."""
        return self.zoo.state_dict() if self.latents is None else {"latents": self.latents}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        if self.latents is None:
            self.zoo.load_state_dict(state)
        else:
            self.latents.copy_(state["latents"])

    def finish(
        self, folder: Path, hypernet: Any, questions: Sequence[str], keep_weights: bool, facts: dict[str, Any]
    ) -> None:
        """Fill the output: latents, and the zoo of weights, of latents by way of the hypernetwork."""
        zoo = self.zoo
        if self.latents is not None:
            write_tensors(folder / LATENTS, {"latents": self.latents})
            if not keep_weights:
                return
            zoo = ZooWriter(folder, self.space, self.dtype)
            for draw, latents in enumerate(self.latents):
                for rows in torch.arange(len(latents)).split(64):
                    weights = hypernet(latents[rows].to(self.run.device))
                    zoo.append(weights, rows.tolist(), [draw] * len(rows))
        zoo.finish(folder, [{"text": text, "split": "train"} for text in questions], facts)


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
    score_name: ClassVar[str] = "validation_accuracy"
    scorer: ClassVar[None] = None  # tasks have a loss of their own
    has_tasks: ClassVar[bool] = True

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
    def zoo(self) -> Zoo:
        """Adapted weights (R, T, P), on disk.

        Raises:
            InputError: only latents were kept, or an earlier version wrote them.
        """
        if (self.folder / "adapted.safetensors").is_file():
            raise InputError(
                f"{self.folder} was written by an earlier version, as adapted.safetensors: run adapt_tasks again"
            )
        if self.facts["inner_variable"] == "latents" and not (self.folder / "zoo.json").is_file():
            raise InputError(
                f"{self.folder} has no weights, only latents: run adapt_tasks with keep_weights=true"
            )
        return Zoo.load(self.folder, self.device)

    @cached_property
    def weights(self) -> Tensor:
        """Adapted weights in memory, with shape (R, T, P); `zoo` reads them in batches.

        Raises:
            InputError: only latents were kept.
        """
        return self.zoo.whole()

    def mean_weights(self) -> Tensor:
        """The mean of the draws of each task, with shape (T, P)."""
        draws = range(self.zoo.index.draws)
        return sum(self.zoo.rows(draw=draw)[:] for draw in draws) / len(draws)  # type: ignore[return-value]

    @cached_property
    def latents(self) -> Tensor:
        """Adapted latents, with shape (R, T, Z).

        Raises:
            InputError: weights were adapted.
        """
        if not (self.folder / LATENTS).is_file():
            raise InputError(
                f"{self.folder} has no latents, only weights: give hvae=..., or run adapt_tasks with inner_variable=latents"
            )
        return read_tensors(self.folder / LATENTS)["latents"].to(self.device)

    def targets(self, tasks: Any) -> Tensor:
        """Weights (T, P) of T held-out tasks."""
        return self.adapt(tasks.batch())

    def score(self, weights: Tensor, tasks: Any) -> float:
        """The accuracy of weights (T, P) on their tasks."""
        return evaluate(self.network, tasks, lambda _, rows: weights[rows]).macro

    def zero_shot(self, pipe: Any, tasks: Any, given: Any, **sampling: Any) -> float:
        """Mean accuracy of what a pipeline samples, over pairs of embeddings of questions and of support sets."""
        return fmean(zero_shot(pipe, tasks, *pair, **sampling).macro for pair in given)

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
        decoder = load_module(hvae, "hypernet", self.device, self.trust_remote_code)
        return decoder, *encode_zoo(self.zoo, decoder)
