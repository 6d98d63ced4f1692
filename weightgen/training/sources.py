"""What generators of weights learn from: adapted weights with the tasks of a data set, or a zoo of weights alone. For recipes only.

Notation: T tasks, P weights, Z latent.
"""

from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from weightgen.data import LatentTasks, TaskConditions, TaskList, load_tasks
from weightgen.data.zoo import Zoo
from weightgen.data.zoo.encoding import encode_zoo
from weightgen.data.zoo.tasks import ZooTasks, zoo_tasks
from weightgen.encoders.load import load_encoder
from weightgen.errors import InputError
from weightgen.evaluation import task_streams
from weightgen.networks.named_parameters import NamedParameters
from weightgen.nn.standardizer import Standardizer
from weightgen.objectives import LatentDiffusionLoss
from weightgen.objectives.function_loss import checked_scores
from weightgen.protocols import Encoder, WeightScore
from weightgen.storage.shipped import SHIPPED
from weightgen.training.adapted import AdaptedTasks
from weightgen.training.components import build_part
from weightgen.training.saved import load_module
from weightgen.weights import FunctionalNetwork


class ZooSource:
    """A zoo without tasks, in the place of `AdaptedTasks`: its scores are of weights, not of what they do.

    Args:
        zoo: of all its tasks.
        tasks: those that train.
        trust_remote_code: whether classes may be others than weightgen's.
        scorer: a loss on what weights do, of the user's own.

    Attributes:
        zoo: of the tasks that train.
    """

    score_name, has_tasks = "minus_validation_loss", False

    def __init__(
        self, zoo: Zoo, tasks: ZooTasks, trust_remote_code: bool = False, scorer: WeightScore | None = None
    ) -> None:
        self.whole, self.zoo, self.trust_remote_code = zoo, tasks.zoo, trust_remote_code
        self.scorer = scorer

    @cached_property
    def network(self) -> FunctionalNetwork:
        """The network beside the zoo, or a stand-in with its parameters."""
        if (self.whole.folder / "network").is_dir():
            trusted = (self.zoo.device, self.trust_remote_code)
            return FunctionalNetwork(load_module(self.whole.folder, "network", *trusted))
        config = self.whole.index.facts.get("adapter_config")
        return FunctionalNetwork(NamedParameters(self.zoo.space.to_json(), config)).to(self.zoo.device)

    @cached_property
    def scale(self) -> Standardizer:
        """Mean of each weight, and standard deviation of each layer, over the training tasks."""
        made = Standardizer(self.zoo.space.size).to(self.zoo.device)
        return made.fit(self.zoo.rows(), groups=self.zoo.layers)

    def targets(self, tasks: ZooTasks) -> Tensor:
        """The first draw of T held-out tasks, with shape (T, P)."""
        return tasks.zoo.rows(draw=0)[:]

    def score(self, weights: Tensor, tasks: ZooTasks) -> float:
        """Minus the loss of weights (T, P) that the scorer gives.

        Without one, minus their mean squared difference from those of the tasks, each layer in its standard deviations.
        """
        if self.scorer is not None and tasks.numbers is not None:
            with torch.no_grad():
                return -checked_scores(self.scorer, weights, tasks.numbers).mean().item()
        return -(self.scale(weights) - self.scale(self.targets(tasks))).square().mean().item()

    def zero_shot(self, pipe: Any, tasks: ZooTasks, given: Any, **sampling: Any) -> float:
        """The score of weights that a pipeline samples for the texts of tasks; the mean over the samples of a task."""
        weights, _ = pipe.sample(tasks.embeds, generator=task_streams(len(tasks)), **sampling)
        return fmean(self.score(weights[:, k], tasks) for k in range(weights.shape[1]))

    def posterior(self, hvae: str | None, tasks: ZooTasks | None = None) -> tuple[Any, Tensor, Tensor]:
        """What decodes latents, and mean and standard deviation (R, T, Z) of those of the tasks, by default those that train.

        Raises:
            InputError: there is no HVAE, or one of another network.
        """
        if hvae is None:
            raise InputError("a zoo has weights, no latents: give hvae=..., the output of train_hvae")
        decoder = load_module(hvae, "hypernet", self.zoo.device, self.trust_remote_code)
        if decoder.space != self.zoo.space:
            raise InputError(
                f"{hvae} was trained on weights of another network than {self.whole.folder} holds"
            )
        return decoder, *encode_zoo(self.zoo if tasks is None else tasks.zoo, decoder)


def open_tasks(cfg: Any, device: torch.device | str, *splits: str, questions: bool = False) -> list[Any]:
    """The splits of a Meta-VQA data set, or of tasks of the user's own.

    Args:
        cfg: settings with dataset and features, and tasks: a class that is built as Kind(split=..., **options), has a length, and whose
            items are single tasks (`TaskBatch`); with trust_remote_code.
        device: where tensors lie.
        *splits: their names.
        questions: whether each task of a data set must have a question.

    Returns:
        `MetaVQATasks`, or `TaskList`s.

    Raises:
        InputError: neither of them, or both, or see `load_tasks` and `TaskList`.
    """
    own = getattr(cfg, "tasks", None)
    if (cfg.dataset is None) == (own is None):
        raise InputError(
            "expected one of dataset=..., a Meta-VQA folder, and tasks=..., a class of your own tasks"
        )
    if own is None:
        return list(
            load_tasks(cfg.dataset, *splits, features=cfg.features, device=device, questions=questions)
        )
    return [TaskList(build_part(cfg, "tasks", split=split)).to(device) for split in splits]


def load_source(cfg: Any, device: torch.device | str, *splits: str) -> tuple[Any, ...]:
    """Open adapted weights and the splits of their data set; without `dataset` and `tasks`, those of the zoo itself.

    Args:
        cfg: settings with adapted, dataset, tasks, features, seed and trust_remote_code; with text_encoder, questions are needed, and it
            embeds the texts of a zoo.
        device: where tensors lie.
        *splits: their names.

    Returns:
        `AdaptedTasks` or `ZooSource`, and `MetaVQATasks`, `TaskList` or `ZooTasks` of each split.

    Raises:
        InputError: no zoo, or a setting that needs tasks where there are none.
    """
    encoder, score = getattr(cfg, "text_encoder", None), getattr(cfg, "score", None)
    own = getattr(cfg, "tasks", None)
    if cfg.dataset is not None or own is not None:
        if score:
            raise InputError("score is for a zoo without tasks, and here are tasks: leave one of them out")
        tasks = open_tasks(cfg, device, *splits, questions=encoder is not None)
        if own is not None and encoder is not None:
            tasks[0].encoder = text_encoder(encoder, device, cfg.trust_remote_code)
        return AdaptedTasks.load(cfg.adapted, device, cfg.trust_remote_code), *tasks
    for name in ("function_weight", "support", "features", "examples"):
        if getattr(cfg, name, None) and not (name == "function_weight" and score):
            instead = ", or score=..., a class that scores weights" if name == "function_weight" else ""
            raise InputError(
                f"{name} needs tasks, on which weights are run: give dataset=... or tasks=...{instead}, or leave it out"
            )
    zoo = Zoo.load(cfg.adapted, device)
    scorer = build_part(cfg, "score", zoo=zoo).to(device).requires_grad_(False) if score else None
    tower = None if encoder is None else text_encoder(encoder, device, cfg.trust_remote_code)
    train, *others = zoo_tasks(zoo, *splits, encoder=tower, seed=cfg.seed, scored=scorer is not None)
    return ZooSource(zoo, train, cfg.trust_remote_code, scorer), train, *others


def text_encoder(name: str, device: torch.device | str, trust_remote_code: bool = False) -> Encoder:
    """The encoder of a pipeline that comes with the package, or one that `load_encoder` reads."""
    shipped = SHIPPED / name / "encoder"
    known = len(Path(name).parts) == 1 and not Path(name).exists() and shipped.is_dir()
    return load_encoder(shipped if known else name, device=device, trust_remote_code=trust_remote_code)


@torch.no_grad()
def held_out_loss(
    prior: Any, source: ZooSource, hypernet: Any, hvae: str, tasks: ZooTasks, draws: int = 1024
) -> float:
    """The denoising error of a prior on the latents of held-out weights, with their texts and always the same noise."""
    _, mean, std = source.posterior(hvae, tasks)
    latents = LatentTasks(mean, std, TaskConditions.of(tasks.embeds), 0.0)
    kept = [parameter.requires_grad for parameter in hypernet.parameters()]
    objective = LatentDiffusionLoss(prior.denoiser, prior, hypernet, source.network, drop_rate=0.0)
    for parameter, flag in zip(hypernet.parameters(), kept, strict=True):
        parameter.requires_grad_(flag)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return float(objective((*latents.draw([], draws), None)).loss)
