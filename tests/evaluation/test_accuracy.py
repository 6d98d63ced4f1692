"""Scores of a split: every number against a plain loop over tasks, networks and examples."""

import pytest
import torch
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close

from tests.splits import Split as Tasks
from weightgen.errors import InputError
from weightgen.evaluation.accuracy import Scores, chance_scores, encoder_scores, evaluate, zero_shot
from weightgen.evaluation.ensembles import ensemble_scores
from weightgen.networks.clip_adapter import CLIPAdapter
from weightgen.tasks import Examples, TaskBatch, collate
from weightgen.weights import FunctionalNetwork

E = 6
SIZES = [(5, 4, 3), (9, 7, 4), (3, 1, 2), (6, 12, 5), (8, 5, 2)]  # support, query, answers


class Split:
    """What `evaluate` needs of a split of Meta-VQA."""

    def __init__(self):
        self.rows, self.sizes = [], [support + query for support, query, _ in SIZES]
        self.answers = [[f"answer {c}" for c in range(classes)] for *_, classes in SIZES]
        self.asked = []
        for support, query, classes in SIZES:
            parts = (Examples(torch.randn(n, E), torch.randint(classes, (n,))) for n in (support, query))
            context = {"answers": torch.randn(classes, E), "answer_mask": torch.ones(classes).bool()}
            self.rows.append(TaskBatch(*parts, embeds=torch.randn(E), context=context))

    def __len__(self):
        return len(self.rows)

    def batch(self, rows):
        self.asked.append(list(rows))
        return collate([self.rows[row] for row in rows])


@pytest.fixture
def split():
    return Split()


@pytest.fixture
def network():
    return FunctionalNetwork(CLIPAdapter(E, hidden_dim=3, init="authors"))


def slow_right(network, task, weights):
    """Share of right answers of one network on one task."""
    filled = network.with_weights(weights)
    right = 0
    for image, label in zip(*task.query, strict=True):
        logits = filled(image[None], task.context["answers"])[0].tolist()
        right += logits.index(max(logits)) == label.item()
    return right / len(task.query.labels)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_one_network_per_task(split, network, batch_size):
    weights = torch.randn(len(split), network.space.size)
    scores = evaluate(network, split, lambda batch, rows: weights[rows], batch_size)
    expected = [slow_right(network, task, w) for task, w in zip(split.rows, weights, strict=True)]
    assert 0 < sum(expected) < len(expected)
    assert_close(scores.accuracy, torch.tensor(expected))
    assert scores.examples.tolist() == [query for _, query, _ in SIZES]
    assert sorted(row for rows in split.asked for row in rows) == list(range(len(split)))
    assert max(map(len, split.asked)) <= batch_size


@pytest.mark.parametrize("batch_size", [2, 64])
def test_several_networks_per_task_are_averaged(split, network, batch_size):
    weights = torch.randn(len(split), 4, network.space.size)
    scores = evaluate(network, split, lambda batch, rows: weights[rows], batch_size)
    expected = [
        sum(slow_right(network, task, w) for w in own) / 4
        for task, own in zip(split.rows, weights, strict=True)
    ]
    assert_close(scores.accuracy, torch.tensor(expected))
    assert scores.examples.tolist() == [query for _, query, _ in SIZES]


def test_weights_are_asked_with_the_batch_they_are_for(split, network):

    def weights_of(batch, rows):
        assert not torch.is_grad_enabled()
        for place, row in enumerate(rows.tolist()):
            assert torch.equal(batch.embeds[place], split.rows[row].embeds)
        return torch.zeros(len(rows), network.space.size)

    evaluate(network, split, weights_of, batch_size=2)
    assert len(split.asked) == 3


def test_macro_weighs_tasks_and_micro_examples():
    scores = Scores(torch.tensor([1.0, 0.5, 0.0]), torch.tensor([10.0, 20.0, 70.0]))
    assert scores.macro == pytest.approx(0.5)
    assert scores.micro == pytest.approx((10 + 10 + 0) / 100)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_clip_alone_takes_the_answer_with_the_largest_cosine(split, batch_size):
    expected = []
    for task in split.rows:
        answers = task.context["answers"]
        right = [
            cosine_similarity(image[None], answers).argmax() == label
            for image, label in zip(*task.query, strict=True)
        ]
        expected.append(sum(right).item() / len(right))
    scores = encoder_scores(split, batch_size)
    assert 0 < sum(expected) < len(expected)
    assert_close(scores.accuracy, torch.tensor(expected))
    assert scores.examples.tolist() == [query for _, query, _ in SIZES]


def test_an_answer_that_is_padding_is_never_chosen(split):
    """The cosine of a padded answer is 0, more than that of answers that point away from the image."""
    away, east = -torch.eye(E)[0], torch.eye(E)[0]
    for number in (0, 1, 2):  # all have fewer answers than the largest task, so all are padded
        task, classes = split.rows[number], len(split.answers[number])
        images = east.expand(len(task.query.labels), E)
        task.context["answers"] = torch.stack([away + torch.eye(E)[1], *[away] * (classes - 1)])
        split.rows[number] = task._replace(query=Examples(images, torch.zeros(len(images)).long()))
    assert encoder_scores(split).accuracy[:3].tolist() == [1.0, 1.0, 1.0]


def test_an_adapter_that_does_nothing_scores_as_clip(split):
    network = FunctionalNetwork(CLIPAdapter(E, hidden_dim=3))
    start = network.initial_weights
    scores = evaluate(network, split, lambda batch, rows: start.expand(len(rows), -1))
    assert torch.equal(scores.accuracy, encoder_scores(split).accuracy)


def test_chance(split):
    scores = chance_scores(split)
    assert_close(scores.accuracy, torch.tensor([1 / 3, 1 / 4, 1 / 2, 1 / 5, 1 / 2]))
    assert scores.examples.tolist() == [query for _, query, _ in SIZES]


class Pipe:
    """A pipeline whose weights are noise from the stream of each task, around a function of its condition."""

    def __init__(self, network):
        self.network = network

    def sample(self, embeds, *, support_embeds=None, num_samples, generator, shift=0.0):
        self.asked = embeds, support_embeds
        size = (num_samples, self.network.space.size)
        return torch.stack([shift + torch.randn(size, generator=stream) for stream in generator]), None


@pytest.mark.parametrize("samples", [1, 3])
def test_zero_shot_has_a_stream_for_each_task(network, samples):
    tasks, pipe = Tasks(), Pipe(network)
    scores = zero_shot(pipe, tasks, seed=2, num_samples=samples, shift=0.5)
    assert torch.equal(pipe.asked[0], tasks.embeds) and pipe.asked[1] is None
    streams = [torch.Generator().manual_seed(2 * 1_000_003 + row) for row in range(len(tasks))]
    weights = torch.stack([0.5 + torch.randn(samples, network.space.size, generator=s) for s in streams])
    assert torch.equal(scores.accuracy, evaluate(network, tasks, lambda _, rows: weights[rows]).accuracy)
    assert not torch.equal(scores.accuracy, zero_shot(pipe, tasks, seed=3, num_samples=samples).accuracy)


def test_zero_shot_from_support_sets_alone(network):
    pipe, given = Pipe(network), torch.randn(4, 3)
    zero_shot(pipe, Tasks(), support_embeds=given)
    assert pipe.asked[0] is None and pipe.asked[1] is given
    zero_shot(pipe, Tasks(), given)
    assert pipe.asked[0] is given and pipe.asked[1] is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_have_no_score(split, network, number):
    weights = torch.randn(len(split), 2, network.space.size)
    weights[3, 1, 5] = number
    for score in (evaluate, lambda *args: ensemble_scores(*args, sizes=[1])):
        with pytest.raises(InputError, match="the weights of task 3 hold NaN or infinite numbers"):
            score(network, split, lambda _, rows: weights[rows])


def test_features_that_are_not_finite_have_no_score(split, network):
    split.rows[1].query.inputs[0, 0] = float("nan")
    weights = torch.randn(len(split), network.space.size)
    with pytest.raises(InputError, match="the logits of task 1 hold NaN"):
        evaluate(network, split, lambda _, rows: weights[rows])
    with pytest.raises(InputError, match="the logits of task 1 hold NaN"):
        encoder_scores(split)


@pytest.mark.parametrize("label", [-1, 5, 10**6])
def test_labels_that_are_no_answers(split, network, label):
    split.rows[3].query.labels[4] = label
    weights = torch.randn(len(split), network.space.size)
    with pytest.raises(InputError, match=f"task 3 has the label {label}, expected 0 to 4"):
        evaluate(network, split, lambda _, rows: weights[rows])


def test_a_task_without_query_examples(split, network):
    split.rows[2].query.labels.fill_(-100)
    with pytest.raises(InputError, match="task 2 has no query examples"):
        encoder_scores(split)


def test_the_encoder_alone_does_not_look_at_image_tokens():
    torch.manual_seed(0)
    plain, tokens = Split(), Split()
    for number, row in enumerate(plain.rows):
        parts = [
            Examples(torch.cat([part.inputs, torch.randn(len(part.inputs), 8)], dim=-1), part.labels)
            for part in row[:2]
        ]
        tokens.rows[number] = row._replace(support=parts[0], query=parts[1])
    assert torch.equal(encoder_scores(tokens).accuracy, encoder_scores(plain).accuracy)
