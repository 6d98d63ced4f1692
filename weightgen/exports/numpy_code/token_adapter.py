"""TokenAdapter in NumPy: logits = s · cos(x + W₂ relu(W₁ [v_1, …, v_Q] + b₁) + b₂, answers), v_q = Σ_t softmax_t(k_t · u_q / √D') k_t."""

from typing import Any

import numpy as np


def logits(inputs: Any, w: dict[str, Any]) -> Any:
    """Scores (N, C) of the answers w["answers"] (C, E) for features (N, E + S² D): an embedding, then tokens."""
    size = int(w["embed_dim"])
    x, tokens = inputs[:, :size], inputs[:, size:].reshape(len(inputs), int(w["grid"]) ** 2, -1)
    places = np.broadcast_to(w["position"], (len(inputs), *w["position"].shape))
    keys = np.concatenate([tokens, places], axis=-1)
    scores = keys @ w["queries"].T * w["queries"].shape[-1] ** -0.5
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    attention = (powers / powers.sum(axis=1, keepdims=True)).transpose(0, 2, 1)
    # Values of all queries: first what they saw, then where, as the network joins them.
    seen = np.concatenate([attention @ tokens, attention @ w["position"]], axis=-1).reshape(len(inputs), -1)
    h = np.maximum(seen * seen.shape[-1] ** -0.5 @ w["hidden.weight"].T + w["hidden.bias"], 0)
    moved = h * h.shape[-1] ** -0.5 @ w["out.weight"].T + w["out.bias"]
    return w["logit_scale"] * unit(unit(x) * np.sqrt(size) + moved) @ unit(w["answers"]).T


def unit(v: Any) -> Any:
    """Vectors of length 1."""
    return v / np.sqrt(np.maximum(np.square(v).sum(axis=-1, keepdims=True), 1e-12))
