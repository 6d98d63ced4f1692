"""Pipelines: text or examples in, classifiers out."""
