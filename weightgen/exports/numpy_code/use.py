"""Answers of the networks in weights.npz, with NumPy alone: python use.py inputs.npy, where inputs have the shape (N, ...)."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from network import logits  # type: ignore[import-not-found]

saved = dict(np.load(Path(__file__).with_name("weights.npz")))
samples = {name[8:]: value for name, value in saved.items() if name.startswith("samples/")}


def probabilities(inputs: Any) -> Any:
    """The mean over all samples of the networks' probabilities, with shape (N, C)."""
    count = len(next(iter(samples.values())))
    scores = [logits(inputs, {**saved, **{n: v[k] for n, v in samples.items()}}) for k in range(count)]
    powers = [np.exp(score - score.max(axis=-1, keepdims=True)) for score in scores]
    return np.mean([power / power.sum(axis=-1, keepdims=True) for power in powers], axis=0)


if __name__ == "__main__":
    for shares in probabilities(np.load(sys.argv[1])):
        best = shares.argmax()
        print(saved["choices"][best] if "choices" in saved else best, round(float(shares[best]), 3))
