"""CLIPAdapter in NumPy: logits = s · cos(x + W₂ relu(W₁ x + b₁) + b₂, answers)."""

from typing import Any

import numpy as np


def logits(inputs: Any, w: dict[str, Any]) -> Any:
    """Scores (N, C) of the answers w["answers"] (C, E) for image features (N, E)."""
    x = unit(inputs) * np.sqrt(inputs.shape[-1]) if w["normalize_inputs"] else inputs
    h = np.maximum(linear(x, w, "hidden"), 0)
    return w["logit_scale"] * unit(x + linear(h, w, "out")) @ unit(w["answers"]).T


def linear(x: Any, w: dict[str, Any], layer: str) -> Any:
    """A layer, in the neural tangent kernel parametrisation where w["ntk"] says so."""
    scale = x.shape[-1] ** -0.5 if w["ntk"] else 1.0
    return x * scale @ w[f"{layer}.weight"].T + w.get(f"{layer}.bias", 0)


def unit(v: Any) -> Any:
    """Vectors of length 1."""
    return v / np.sqrt(np.maximum(np.square(v).sum(axis=-1, keepdims=True), 1e-12))
