"""Generative hypernetworks: models whose samples are the weights of other models.

Public names are imported on first use, so `import weightgen` costs nothing. Read `weightgen.protocols` first.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "CLIPAdapter": "weightgen.networks",
    "Classifier": "weightgen.pipelines.classifier",
    "ClassifierFreeGuidance": "weightgen.guidance",
    "ConvNet": "weightgen.networks",
    "DiffusionPrior": "weightgen.priors",
    "Examples": "weightgen.tasks",
    "FewShotGuidance": "weightgen.guidance",
    "FiLM": "weightgen.hypernets",
    "GeneratedWeights": "weightgen.pipelines.generated_weights",
    "FunctionalNetwork": "weightgen.weights",
    "HNet": "weightgen.hypernets",
    "HVAE": "weightgen.hypernets",
    "HyperCLIP": "weightgen.encoders.hyperclip",
    "HyperCLIPGuidance": "weightgen.guidance",
    "HyperTransformer": "weightgen.hypernets",
    "Encoder": "weightgen.protocols",
    "InputError": "weightgen.errors",
    "MLPDenoiser": "weightgen.priors",
    "Outcome": "weightgen.protocols",
    "PairedEncoder": "weightgen.encoders.paired",
    "SharedWeights": "weightgen.hypernets",
    "Standardizer": "weightgen.nn.standardizer",
    "SupportClassifier": "weightgen.pipelines.support_classifier",
    "SupportHNet": "weightgen.hypernets",
    "TaskBatch": "weightgen.tasks",
    "TextAndSupportGuidance": "weightgen.guidance",
    "WeightPipeline": "weightgen.pipelines.weight_pipeline",
    "WeightSpace": "weightgen.weights",
    "fine_tune": "weightgen.adaptation",
    "gradient_descent": "weightgen.adaptation",
    "load_clip": "weightgen.encoders.load",
    "load_encoder": "weightgen.encoders.load",
    "lora_target": "weightgen.networks",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weightgen' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
