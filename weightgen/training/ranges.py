"""The ranges of settings, by name: what is out of range is refused before anything is read. For recipes only."""

from typing import Any

from weightgen.errors import InputError

COUNTS = (
    *(
        "steps",
        "batch_size",
        "validate_every",
        "checkpoint_every",
        "keep_checkpoints",
        "gradient_accumulation_steps",
        "warmup",
        "decay_steps",
    ),
    *("validation_episodes", "draws", "support_draws", "embed_draws", "max_shots", "function_tasks"),
)
POSITIVE = ("lr", "inner_lr", "max_grad_norm", "temperature", "logit_scale")
NOT_NEGATIVE = ("seed", "lr_warmup_steps", "function_weight", "kl_weight", "posterior_noise", "weight_decay")
PROBABILITIES = ("drop_rate", "hide")
DECAYS = ("ema_decay", "beta2")


def check_ranges(settings: dict[str, Any]) -> None:
    """Refuse settings out of range; those with other names, and lists, are left to the classes that use them.

    Raises:
        InputError: naming the first such setting.
    """
    for name, value in settings.items():
        if not isinstance(value, int | float):
            continue
        if name in COUNTS and value < 1:
            raise InputError(f"expected {name} from 1 up, got {value}")
        if name in POSITIVE and not value > 0:
            raise InputError(f"expected {name} above 0, got {value}")
        if name in NOT_NEGATIVE and not value >= 0:
            raise InputError(f"expected {name} from 0 up, got {value}")
        if name in PROBABILITIES and not 0 <= value <= 1:
            raise InputError(f"expected {name} in [0, 1], got {value}")
        if name in DECAYS and not 0 <= value < 1:
            raise InputError(f"expected {name} in [0, 1), got {value}")
