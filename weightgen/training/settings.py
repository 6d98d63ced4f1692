"""The settings that all recipes that train have in common. For recipes only."""

from dataclasses import asdict, dataclass

from weightgen.errors import InputError, needs
from weightgen.training.processes import check_precision
from weightgen.training.ranges import check_ranges
from weightgen.training.schedules import check_schedule
from weightgen.training.trackers import check_tracker

with needs("train"):
    from omegaconf import MISSING

# With these changed, a run still goes on.
FREE = (
    "gradient_accumulation_steps",
    "output",
    "resume",
    "overwrite",
    "checkpoint_every",
    "keep_checkpoints",
    "trust_remote_code",
    "report_to",
)


@dataclass
class RunConfig:
    """The settings that every training recipe has.

    Attributes:
        output: folder to make.
        seed: of all randomness.
        resume: "auto" goes on with an unfinished run of the same settings and data; "never" refuses it.
        overwrite: whether to replace an `output` that a recipe made, or an unfinished run of other settings; no other folder ever is.
        checkpoint_every: steps between checkpoints.
        keep_checkpoints: how many are kept.
        trust_remote_code: whether components may be classes that are not weightgen's.
        report_to: where numbers go beside metrics.jsonl: "none", "tensorboard", "wandb" or "trackio".
    """

    output: str = MISSING
    seed: int = 0
    resume: str = "auto"
    overwrite: bool = False
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    trust_remote_code: bool = False
    report_to: str = "none"


@dataclass
class TrainConfig(RunConfig):
    """The settings that every recipe has that trains by gradients.

    Attributes:
        gradient_accumulation_steps: parts in which each process computes its share of a batch, one after the other. Losses and weights
            are those of one part, the memory is that of a part, and each part is computed forwards two or three times.
        mixed_precision: "no", or "bf16": forward passes in bfloat16 where torch's autocast says so; weights stay in single precision.
        lr_scheduler: name of a schedule of diffusers' `get_scheduler`; by default the one of the recipe.
        lr_warmup_steps: of such a schedule; by default that of the recipe.
    """

    gradient_accumulation_steps: int = 1
    mixed_precision: str = "no"
    lr_scheduler: str | None = None
    lr_warmup_steps: int | None = None


# What runs had that began before there were these settings.
LATER = {
    "gradient_accumulation_steps": 1,
    "mixed_precision": "no",
}


def check_settings(cfg: RunConfig) -> None:
    """Refuse settings that are unknown or out of range.

    Raises:
        InputError: naming the first such setting.
    """
    if cfg.resume not in ("auto", "never"):
        raise InputError(f"expected resume=auto or resume=never, got {cfg.resume!r}")
    check_tracker(cfg.report_to)
    check_ranges(asdict(cfg))
    if isinstance(cfg, TrainConfig):
        check_schedule(cfg.lr_scheduler)
        check_precision(cfg.mixed_precision)
