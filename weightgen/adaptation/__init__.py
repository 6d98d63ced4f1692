"""Adaptation of many tasks at once: gradient descent on weights or latents."""

from weightgen.adaptation.descent import gradient_descent
from weightgen.adaptation.fine_tuning import (
    adapt,
    check_adapted,
    check_inner_variable,
    fine_tune,
    initial_points,
)

__all__ = [
    "adapt",
    "check_adapted",
    "check_inner_variable",
    "fine_tune",
    "gradient_descent",
    "initial_points",
]
