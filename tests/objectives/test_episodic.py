"""The episodic objective: its loss, the two kinds of statistics, hidden samples, and that it learns."""

from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from weightgen.data.few_shot.arrays import FewShotArrays, write_few_shot_arrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.hypernets.hypertransformer import HyperTransformer
from weightgen.networks.convnet import ConvNet
from weightgen.objectives.episodic import EpisodicLoss, annealed, episode_accuracies, hide_unlabeled
from weightgen.tasks import PADDING_LABEL, UNLABELED, Examples, TaskBatch

B, WAYS = 2, 3


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Ten classes of 10 noisy images around a pattern of their own."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 1, 14, 14))
    images = np.clip(patterns + rng.normal(0, 40, (10, 10, 14, 14)), 0, 255).astype(np.uint8)
    folder = tmp_path_factory.mktemp("arrays") / "a"
    write_few_shot_arrays(
        folder, images.reshape(100, 14, 14), np.repeat(np.arange(10), 10), list("abcdefghij"),
        {"train": range(10)}, {},
    )  # fmt: skip
    return FewShotArrays(folder)


def small():
    return HyperTransformer(ConvNet(4, WAYS, image_size=14, depth=2), layers=1, image_features=8)


def episodes(arrays, **options):
    return Episodes(arrays, arrays.classes("train"), ways=WAYS, queries=2, batch_size=B, **options)


def test_loss_is_the_cross_entropy_of_the_exported_networks(arrays):
    hypernet, batch = small(), episodes(arrays).batch(0)
    for transductive in (True, False):
        outcome = EpisodicLoss(hypernet, transductive)(batch)
        losses = []
        for i in range(B):
            support = Examples(batch.support.inputs[i], batch.support.labels[i])
            network = hypernet.export(support, stored_statistics=not transductive)
            losses.append(F.cross_entropy(network(batch.query.inputs[i]), batch.query.labels[i]))
        torch.testing.assert_close(outcome.loss, torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)


def test_only_transductive_predictions_depend_on_the_other_queries(arrays):
    hypernet, batch = small(), episodes(arrays).batch(0)
    other = batch.query.inputs.clone()
    other[:, 1:] += 1.0
    changed = batch._replace(query=Examples(other, batch.query.labels))
    for transductive in (True, False):
        objective = EpisodicLoss(hypernet, transductive)
        same = torch.allclose(objective.logits(batch)[:, 0], objective.logits(changed)[:, 0], atol=1e-4)
        assert same is not transductive


def test_padded_queries_change_nothing(arrays):
    objective, batch = EpisodicLoss(small()), episodes(arrays).batch(0)
    inputs = torch.cat([batch.query.inputs, torch.randn(B, 2, 1, 14, 14)], 1)
    labels = torch.cat([batch.query.labels, torch.full((B, 2), PADDING_LABEL)], 1)
    padded = batch._replace(query=Examples(inputs, labels))
    torch.testing.assert_close(objective(padded).loss, objective(batch).loss, rtol=1e-4, atol=1e-4)


def test_hidden_samples_are_unlabelled_ones_at_the_rate_asked_for():
    labels = torch.tensor([[0, 1, *[UNLABELED] * 200]]).repeat(2000, 1)
    hidden = hide_unlabeled(Examples(labels, labels), 0.8).labels
    assert (hidden[:, :2] == labels[:, :2]).all()
    assert (hidden[:, 2:] == PADDING_LABEL).double().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (hide_unlabeled(Examples(labels, labels), 1.0).labels[:, 2:] == PADDING_LABEL).all()
    assert torch.equal(hide_unlabeled(Examples(labels, labels), 0.0).labels, labels)


def test_hiding_acts_in_training_only(arrays):
    objective = EpisodicLoss(small())
    objective.hide = 0.5
    batch = episodes(arrays, unlabeled=3).batch(0)
    losses = {objective(batch).loss.item() for _ in range(5)}
    assert len(losses) > 1
    objective.eval()
    assert len({objective(batch).loss.item() for _ in range(3)}) == 1


def test_annealing_falls_to_nothing():
    assert [annealed(step, 0.9, 100) for step in (0, 50, 100, 1000)] == pytest.approx([0.9, 0.45, 0, 0])
    assert annealed(3, 0.9, 0) == 0


def test_accuracies_count_each_episode(arrays):
    objective, drawn = EpisodicLoss(small()), episodes(arrays)
    found = episode_accuracies(objective, drawn, 5)
    assert found.shape == (5,)
    batch = drawn.batch(1)
    expected = (objective.logits(batch).argmax(-1) == batch.query.labels).float().mean(1)
    torch.testing.assert_close(found[2:4], expected)


def test_it_learns(arrays):
    objective, drawn = EpisodicLoss(small()), episodes(arrays)
    before = episode_accuracies(objective, drawn, 60).mean().item()
    assert before < 0.75
    drawn = Episodes(arrays, arrays.classes("train"), ways=WAYS, queries=4, batch_size=8, seed=1)
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    for step in range(80):
        optimizer.zero_grad()
        objective(drawn.batch(step)).loss.backward()
        optimizer.step()
    assert episode_accuracies(objective, episodes(arrays), 60).mean().item() > max(0.85, before + 0.1)


def test_task_batch_without_context_is_enough(arrays):
    batch = episodes(arrays).batch(0)
    assert isinstance(batch, TaskBatch) and batch.context == {} and batch.embeds.shape == (B, 0)


def test_accuracy_is_the_mean_over_the_query_batches_of_a_task(arrays):
    objective, drawn = EpisodicLoss(small()), episodes(arrays)
    found = episode_accuracies(objective, drawn, 3, query_batches=4)
    expected = []
    for step in (0, 1):
        sets = islice(drawn.batches(step), 4)
        right = [objective.logits(one).argmax(-1) == one.query.labels for one in sets]
        expected += torch.stack(right).float().mean(dim=(0, 2)).tolist()
    assert found.tolist() == pytest.approx(expected[:3])
