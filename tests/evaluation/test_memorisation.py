"""The memorisation report: a copier is caught, an inventor is not, and every number is one of a plain loop."""

import pytest
import torch
from torch.testing import assert_close

from tests.splits import E, Split
from weightgen import CLIPAdapter, FunctionalNetwork, InputError
from weightgen.evaluation.memorisation import (
    error_overlap,
    memorisation_report,
    nearest_weights,
    noisy_neighbours,
    training_spacing,
)

R, T = 3, 7


@pytest.fixture
def case():
    network = FunctionalNetwork(CLIPAdapter(E, hidden_dim=3, init="authors"))
    space = network.space
    tasks = torch.randn(T, space.size)
    training = tasks + 0.05 * torch.randn(R, T, space.size)  # draws of a task lie close together
    return network, space, training, torch.randn(T, E), Split()


def test_nearest_is_found_and_exact():
    # A large common offset: subtracting squares would lose the distance.
    training = 1000 + torch.randn(40, 30)
    weights = training[[3, 17, 3]] + torch.tensor([[0.0], [1e-3], [0.5]])
    found = nearest_weights(weights.reshape(3, 1, 30), training, chunk=2)
    assert found.row.tolist() == [[3], [17], [3]] and found.distance[0].item() == 0
    expected = [min((w - t).norm().item() for t in training) for w in weights]
    assert_close(found.distance.flatten(), torch.tensor(expected))


def test_spacing_ignores_draws_of_the_same_task(case):
    _, _, training, _, _ = case
    expected = [
        min((training[r, t] - training[q, s]).norm().item() for q in range(R) for s in range(T) if s != t)
        for r in range(R)
        for t in range(T)
    ]
    assert training_spacing(training) == pytest.approx(sorted(expected)[(R * T - 1) // 2], rel=1e-5)
    assert nearest_weights(training[0], training[1]).distance.max() < training_spacing(training) / 5


def test_error_overlap_by_hand():
    wrong = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    others = torch.tensor([[1, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    assert_close(error_overlap(wrong, others), torch.tensor([2 / 3, 0.0]))
    assert error_overlap(others[:2], others).tolist() == [1, 1]


def test_noise_is_around_the_most_similar_question(case):
    _, _, training, embeds, _ = case
    asked = embeds[[5, 0]] + 0.01 * torch.randn(2, E)
    plain = noisy_neighbours(training, embeds, asked, 0.0, torch.Generator())
    assert torch.equal(plain, training[:, [5, 0]].transpose(0, 1))
    noisy = noisy_neighbours(training, embeds, asked, 0.5, torch.Generator().manual_seed(1))
    deviation = (noisy - plain) / training.flatten(0, 1).std(dim=0)
    assert deviation.std().item() == pytest.approx(0.5, rel=0.2)


def test_a_copier_is_caught_and_an_inventor_is_not(case):
    network, space, training, embeds, split = case
    flat = training.flatten(0, 1)
    samples = {
        "copier": flat[torch.randint(len(flat), (len(split), 5))],
        "inventor": torch.randn(len(split), 5, space.size),
    }
    report = memorisation_report(network, split, samples, training, embeds, noises=(0.0,))
    rows = report["rows"]
    copier, inventor = rows["copier"], rows["inventor"]
    assert (copier["distance"], copier["copies"]) == (0, 1)
    assert inventor["copies"] == 0 and inventor["distance"] > 0.5
    assert inventor["error_overlap"] < copier["error_overlap"] <= 1
    assert rows["weights of the most similar question plus noise 0"]["copies"] == 1
    assert set(rows) == {
        *samples,
        "mean of training weights",
        "weights of the most similar question plus noise 0",
    }
    assert report["training_weights"] == R * T


def test_refusals(case):
    network, space, training, embeds, split = case
    with pytest.raises(InputError, match="cannot compare"):
        nearest_weights(torch.randn(2, 3), torch.randn(4, 5))
    with pytest.raises(InputError, match="tasks >= 2"):
        training_spacing(training[:, :1])
    with pytest.raises(InputError, match="samples of mine with shape"):
        memorisation_report(network, split, {"mine": training[0]}, training, embeds)
