"""Low-rank adapters of any network, by the `peft` library, as the weights to generate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from weightgen.errors import InputError, needs
from weightgen.weights import FunctionalNetwork

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_target(module: nn.Module, config: LoraConfig) -> FunctionalNetwork:
    r"""The network f(w, x) in which w are the low-rank adapters of some layers of `module`, and all else is frozen and shared.

        y = W x + b + (α / r) B A x,        w = (A, B of every adapted layer)

    The adapters start as `peft` initialises them: B = 0, so that the network is `module` itself.

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.

    Args:
        module: any module; its layers that are adapted are replaced in place, as `peft` does it.
        config: which layers (`target_modules`), the rank r and α, as for any use of `peft`.

    Returns:
        A network whose `module` is a `PeftModel`. Many tasks run at once through `vmap`, as with every `FunctionalNetwork`.

    Raises:
        InputError: `peft` is missing or refuses the configuration, or it trains more than adapters.
    """
    with needs("peft"):
        import peft

    if not isinstance(config, peft.LoraConfig):
        raise InputError(f"expected a peft.LoraConfig, got {config!r:.80}")
    if config.modules_to_save or config.bias != "none" or config.trainable_token_indices:
        raise InputError(
            "the LoraConfig trains more than low-rank adapters: leave out modules_to_save, bias and trainable_token_indices"
        )
    try:
        wrapped: Any = peft.get_peft_model(module, config)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"peft refuses this LoraConfig: {reason:.300}") from error
    return FunctionalNetwork(wrapped, [f"*.lora_*.{wrapped.active_adapter}*"])
