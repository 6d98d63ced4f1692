"""Guidance: wrappers of denoisers and priors, which fulfil the contract of what they wrap."""

from weightgen.guidance.classifier_free import ClassifierFreeGuidance
from weightgen.guidance.few_shot import FewShotGuidance
from weightgen.guidance.hyperclip import HyperCLIPGuidance
from weightgen.guidance.text_and_support import TextAndSupportGuidance

__all__ = ["ClassifierFreeGuidance", "FewShotGuidance", "HyperCLIPGuidance", "TextAndSupportGuidance"]
