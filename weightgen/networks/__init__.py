"""Base networks, whose weights are generated: ordinary modules, forward(inputs, **context) → logits."""

from weightgen.networks.clip_adapter import CLIPAdapter
from weightgen.networks.convnet import ConvNet, shallow
from weightgen.networks.lora import lora_target
from weightgen.networks.mlp import MLP
from weightgen.networks.named_parameters import NamedParameters
from weightgen.networks.sine import SineNetwork
from weightgen.networks.statement_classifier import StatementClassifier
from weightgen.networks.token_adapter import TokenAdapter

__all__ = [
    "MLP", "CLIPAdapter", "ConvNet", "NamedParameters", "SineNetwork", "StatementClassifier", "TokenAdapter", "lora_target", "shallow",
]  # fmt: skip
