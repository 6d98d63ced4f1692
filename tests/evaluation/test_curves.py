"""Curves over shots and steps, against a plain loop over tasks."""

from collections import Counter

import pytest
import torch
from torch.testing import assert_close

from tests.splits import E, Split
from weightgen import CLIPAdapter, FunctionalNetwork, HNet, InputError, SupportHNet
from weightgen.adaptation import fine_tune
from weightgen.evaluation.accuracy import evaluate
from weightgen.evaluation.curves import embed_shots, few_shots, shot_curve, step_curve
from weightgen.shots import keep_shots, shot_order
from weightgen.tasks import Examples


@pytest.fixture
def case():
    network = FunctionalNetwork(CLIPAdapter(E, hidden_dim=3, init="authors", logit_scale=4.0))
    return network, Split(), torch.randn(4, network.space.size)


def tuned(network, starts):
    """Ten steps from given weights."""
    return lambda batch, rows: fine_tune(network, None, batch, steps=10, lr=0.5, start=starts[rows])


def slow_adapted(network, task, point, steps, lr, decode=lambda point: point):
    for _ in range(steps):
        point = point.detach().requires_grad_()
        logits = network.single(decode(point), task.support.inputs, **task.context)
        loss = torch.nn.functional.cross_entropy(logits, task.support.labels)
        point = point - lr * torch.autograd.grad(loss, point)[0]
    return decode(point.detach())


def test_steps_equal_a_loop(case):
    network, split, starts = case
    curve = step_curve(network, split, steps=(0, 1, 5), lr=0.5, start_of=lambda _, rows: starts[rows])
    for steps, scores in curve.items():
        slow = torch.stack(
            [slow_adapted(network, task, w, steps, 0.5) for task, w in zip(split.rows, starts, strict=True)]
        )
        assert_close(scores.accuracy, evaluate(network, split, lambda _, rows, w=slow: w[rows]).accuracy)
    assert curve[5].accuracy.tolist() != curve[0].accuracy.tolist()


def test_latents_are_adapted_through_their_hypernetwork(case):
    network, split, starts = case
    hypernet = (
        HNet(network.space, 4, (8,), latent_dim=4, spread=3.0).init_weights(starts[0]).requires_grad_(False)
    )
    found = step_curve(network, split, hypernet, (0, 20), 0.5, inner_variable="latents")
    for steps, scores in found.items():
        slow = [slow_adapted(network, task, hypernet.start, steps, 0.5, hypernet) for task in split.rows]
        stacked = torch.stack(slow)
        expected = evaluate(network, split, lambda _, rows, w=stacked: w[rows])
        assert_close(scores.accuracy, expected.accuracy)
    assert found[20].accuracy.tolist() != found[0].accuracy.tolist()


@pytest.mark.parametrize("shots", [0, 1, 2, 100])
def test_at_most_so_many_of_each_class(shots):
    labels = torch.randint(4, (5, 30))
    labels[:, 25:] = -100
    kept = keep_shots(Examples(torch.randn(5, 30, 2), labels), shots, torch.rand(5, 30)).labels
    for before, after in zip(labels.tolist(), kept.tolist(), strict=True):
        assert all(b == a or a == -100 for b, a in zip(before, after, strict=True))
        expected = {c: min(n, shots) for c, n in Counter(before).items() if c >= 0 and shots}
        assert {c: n for c, n in Counter(after).items() if c >= 0} == expected


def test_shots_of_each_class():
    labels = torch.randint(4, (5, 30))
    limits = torch.randint(9, (5, 4))
    kept = keep_shots(Examples(torch.randn(5, 30, 2), labels), limits, torch.rand(5, 30)).labels
    for before, after, most in zip(labels, kept, limits, strict=True):
        for c in range(4):
            assert (after == c).sum() == min(most[c], (before == c).sum())


def test_fewer_shots_are_part_of_more_and_every_example_has_its_turn():
    examples = Examples(torch.randn(1, 12, 2), torch.arange(12)[None] % 2)
    seen = set()
    for _ in range(60):
        order = torch.rand(1, 12)
        sets = [
            set((keep_shots(examples, n, order).labels[0] >= 0).nonzero().flatten().tolist())
            for n in (1, 3, 6)
        ]
        assert sets[0] < sets[1] < sets[2] == set(range(12))
        seen |= sets[0]
    assert seen == set(range(12))


def test_shots_between_none_and_all(case):
    network, split, starts = case

    def curve(shots, **settings):
        return shot_curve(network, split, tuned(network, starts), shots, **settings)

    ends = curve([0, 1, 100, None], seeds=[0, 1])
    steps = step_curve(network, split, steps=(0, 10), lr=0.5, start_of=lambda _, rows: starts[rows])
    for scores in ends[0]:
        assert_close(scores.accuracy, steps[0].accuracy)
    for scores in ends[100] + ends[None]:
        assert_close(scores.accuracy, steps[10].accuracy)
    assert_close(curve([1])[1][0].accuracy, ends[1][0].accuracy)  # a function of the seed


def test_what_a_task_is_shown_does_not_depend_on_its_batch(case):
    """Padding to a longer batch must not change which examples are drawn."""
    network, split, starts = case
    together = shot_curve(network, split, tuned(network, starts), [1])[1][0].accuracy

    class Alone(Split):
        def __init__(self):
            self.rows, self.sizes = split.rows[:1], split.sizes[:1]

    alone = shot_curve(network, Alone(), tuned(network, starts), [1])[1][0].accuracy
    assert_close(alone, together[:1])
    generators = (torch.Generator().manual_seed(5) for _ in range(2))
    short, long = (torch.rand(n, generator=g) for n, g in zip((11, 1242), generators, strict=True))
    assert torch.equal(short, long[:11])


def test_refusals(case):
    network, split, starts = case
    with pytest.raises(InputError, match="steps from 0 up"):
        step_curve(network, split, steps=[-1])
    with pytest.raises(InputError, match="shots from 0 up"):
        shot_curve(network, split, tuned(network, starts), [])
    with pytest.raises(InputError, match="None for all, got"):
        shot_curve(network, split, tuned(network, starts), [None, -1])
    with pytest.raises(InputError, match="one point per task"):
        step_curve(network, split, start_of=lambda _, rows: starts[rows, None])
    with pytest.raises(InputError, match="diverged: give a smaller step size"):
        step_curve(network, split, steps=[60], lr=1e30, start_of=lambda _, rows: starts[rows])
    with pytest.raises(InputError, match="needs start="):
        step_curve(network, split)


@pytest.mark.parametrize("shots", [1, None])
def test_embeddings_of_small_support_sets(case, shots):
    network, split, _ = case
    encoder = SupportHNet.for_network(network, dim=8, rounds=2, step=0.1, embed_dim=3).eval()
    encoder.fit(torch.randn(9, network.space.size))
    found = embed_shots(encoder, split, shots, seed=4)
    assert found.shape == (4, 3) and not found.requires_grad
    for row in range(4):
        batch = few_shots(split.batch([row]), torch.tensor([row]), shots, 4)
        assert_close(encoder.encode(batch.support, batch.context["answers"])[0], found[row])


def test_few_shots_have_no_columns_of_padding():
    split = Split()
    batch, rows = split.batch(), torch.arange(len(split))
    few = few_shots(batch, rows, 1, seed=0).support
    kept = keep_shots(batch.support, 1, shot_order(batch, rows, 0))
    count = (kept.labels >= 0).sum(dim=1)
    assert few.labels.shape[1] == count.max() < kept.labels.shape[1]
    for row in range(len(split)):
        real = kept.labels[row] >= 0
        assert torch.equal(few.labels[row][: count[row]], kept.labels[row][real])
        assert torch.equal(few.inputs[row][: count[row]], kept.inputs[row][real])
        assert (few.labels[row][count[row] :] == -100).all()
    assert few_shots(batch, rows, 0, seed=0).support.labels.shape == (len(split), 1)
