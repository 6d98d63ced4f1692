"""Evaluation: how good weights are, and how they compare."""
