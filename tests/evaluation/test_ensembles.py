"""Ensembles against a plain loop over tasks, networks and examples."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.splits import E, Split
from weightgen import CLIPAdapter, FunctionalNetwork, InputError
from weightgen.evaluation.accuracy import evaluate
from weightgen.evaluation.ensembles import ensemble_scores

K = 4


@pytest.fixture
def case():
    network = FunctionalNetwork(CLIPAdapter(E, hidden_dim=3, init="authors", logit_scale=4.0))
    split = Split()
    return network, split, torch.randn(len(split), K, network.space.size)


def slow(network, split, weights, count, average):
    """The three scores, example by example."""
    accuracy, nll, confidence, right = [], [], [], []
    for task, own in zip(split.rows, weights, strict=True):
        members = [own[:count].mean(0)] if average == "weights" else list(own[:count])
        filled = [network.with_weights(member) for member in members]
        hits, losses = [], []
        for image, label in zip(*task.query, strict=True):
            logits = [member(image[None], task.context["answers"])[0] for member in filled]
            chances = (sum(one.softmax(-1) for one in logits) / len(logits)).tolist()
            confidence.append(max(chances))
            hits.append(chances.index(max(chances)) == label.item())
            losses.append(-math.log(chances[label]))
        right += hits
        accuracy.append(sum(hits) / len(hits))
        nll.append(sum(losses) / len(losses))
    error = 0.0
    for low in range(5):
        inside = [
            i for i, c in enumerate(confidence) if low / 5 <= c < (low + 1) / 5 or (low == 4 and c == 1)
        ]
        error += abs(sum(right[i] - confidence[i] for i in inside)) / len(confidence)
    return sum(accuracy) / len(accuracy), sum(nll) / len(nll), error


@pytest.mark.parametrize("average", ["probabilities", "weights"])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_equals_a_loop(case, average, batch_size):
    network, split, weights = case
    found = ensemble_scores(network, split, lambda _, rows: weights[rows], [1, 3, 4], average, 5, batch_size)
    assert list(found) == [1, 3, 4]
    for count, scores in found.items():
        expected = slow(network, split, weights, count, average)
        assert_close(torch.tensor(scores), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_one_network_is_what_evaluate_scores(case):
    network, split, weights = case
    alone = evaluate(network, split, lambda _, rows: weights[rows, 0]).macro
    for average in ("probabilities", "weights"):
        found = ensemble_scores(network, split, lambda _, rows: weights[rows], [1], average)
        assert found[1].accuracy == pytest.approx(alone)


def test_averaged_probabilities_are_never_less_likely_than_a_network_is_on_average(case):
    """Jensen's inequality, which holds for every member set."""
    network, split, weights = case
    alone = [
        ensemble_scores(network, split, lambda _, rows, k=k: weights[rows, k : k + 1], [1])[1].nll
        for k in range(K)
    ]
    together = ensemble_scores(network, split, lambda _, rows: weights[rows], [K])[K].nll
    assert together < sum(alone) / K - 0.01


def test_refusals(case):
    network, split, weights = case

    def scores(sizes, average="probabilities", given=weights):
        return ensemble_scores(network, split, lambda _, rows: given[rows], sizes, average)

    for sizes in ([], [0], [K + 1]):
        with pytest.raises(InputError, match="from 1 to the 4 given"):
            scores(sizes)
    with pytest.raises(InputError, match="average must be one of"):
        scores([1], "logits")
    with pytest.raises(InputError, match=r"shape \(B, K, P\)"):
        scores([1], given=weights[:, 0])
