"""Classifiers fitted to examples, and weights of similar questions, against slow formulas."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tests.splits import Split
from weightgen import InputError
from weightgen.evaluation.baselines import (
    fitted_scores,
    logistic_regression,
    mean_weights,
    nearest_centroid,
    nearest_question_weights,
    nearest_questions,
    neighbours_average,
)


def normalised(inputs):
    return (inputs / inputs.norm(dim=-1, keepdim=True)).numpy()


def test_all_examples_are_fitted_and_padding_is_not():
    split = Split()
    scores = fitted_scores(split, lambda: logistic_regression(3.0))
    for row, task in enumerate(split.rows):
        model = LogisticRegression(C=3.0, max_iter=1000)
        if len(set(task.support.labels.tolist())) == 1:
            continue
        model.fit(normalised(task.support.inputs), task.support.labels.numpy())
        right = model.predict(normalised(task.query.inputs)) == task.query.labels.numpy()
        assert scores[0][row].item() == pytest.approx(right.mean())
        assert scores.examples[row] == len(right)


def test_few_examples_are_those_of_every_other_method():
    """With as many shots as there are, all; with one, one of each class, and always the same ones."""
    split = Split()
    seen = []

    class Spy:
        def fit(self, inputs, labels):
            seen.append((inputs, labels))
            return self

        def predict(self, inputs):
            return np.zeros(len(inputs))

    for shots in (1, 1, 99, None):
        fitted_scores(split, Spy, shots)
    count = len(seen) // 4
    one, again, many, every = (seen[i * count : (i + 1) * count] for i in range(4))
    for (a, la), (b, lb) in zip(one + many, again + every, strict=True):
        assert np.array_equal(a, b) and np.array_equal(la, lb)
    assert all(len(set(labels)) == len(labels) for _, labels in one)


def test_nearest_centroid_and_a_single_class():
    split = Split()
    for task in split.rows:
        task.support.labels.fill_(1)
    scores = fitted_scores(split, nearest_centroid)
    shares = [(task.query.labels == 1).float().mean().item() for task in split.rows]
    assert scores.macro == pytest.approx(np.mean(shares))
    split = Split()
    centres = fitted_scores(split, nearest_centroid)
    assert 0 <= centres.macro <= 1 and centres.macro != scores.macro


def test_weights_of_similar_questions():
    weights, known = torch.randn(2, 5, 7), torch.randn(5, 3)
    embeds = known[[3, 1]] * 1.0
    assert nearest_questions(known, embeds)[:, 0].tolist() == [3, 1]
    assert torch.equal(nearest_question_weights(weights, known, embeds), weights[:, [3, 1]].transpose(0, 1))
    mean = weights.mean(dim=0)
    rows = nearest_questions(known, embeds, 3)
    torch.testing.assert_close(neighbours_average(mean, known, embeds, 3), mean[rows].mean(dim=1))
    every = neighbours_average(mean, known, embeds, 5)
    torch.testing.assert_close(every, mean_weights(weights).expand(2, -1))


@pytest.mark.parametrize("k", [0, 6])
def test_as_many_neighbours_as_there_are_questions(k):
    with pytest.raises(InputError, match=f"from 1 to 5 neighbours.*got {k}"):
        nearest_questions(torch.randn(5, 3), torch.randn(2, 3), k)
