"""Evaluation: accuracy of weights on few-shot tasks, and curves of accuracy."""

from weightgen.evaluation.accuracy import (
    Scores,
    chance_scores,
    encoder_scores,
    evaluate,
    task_streams,
    zero_shot,
)
from weightgen.evaluation.curves import embed_shots, shot_curve, step_curve

__all__ = [
    "Scores",
    "chance_scores",
    "embed_shots",
    "encoder_scores",
    "evaluate",
    "shot_curve",
    "step_curve",
    "task_streams",
    "zero_shot",
]
