"""Guidance: wraps what it guides, and is one."""

from weightgen.guidance.classifier_free import ClassifierFreeGuidance

__all__ = ["ClassifierFreeGuidance"]
