import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from weightgen.metrics import count_correct, expected_calibration_error, task_loss
from weightgen.shots import resplit
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch, collate

C, D = 4, 3


def labelled(sizes, longest):
    """Labels (B, longest), padded behind each task's size."""
    labels = torch.randint(C, (len(sizes), longest))
    return torch.stack(
        [row.where(torch.arange(longest) < n, PADDING_LABEL) for row, n in zip(labels, sizes, strict=True)]
    )


def task(support, query):
    examples = (Examples(torch.randn(n, D), torch.randint(C, (n,))) for n in (support, query))
    return TaskBatch(*examples, embeds=torch.randn(2), context={})


def marked(batch):
    """The labelled examples of a batch as sets of (label, input), one per task."""
    return [
        {(int(y), *x.tolist()) for x, y in zip(inputs, labels, strict=True) if y != PADDING_LABEL}
        for inputs, labels in zip(*batch, strict=True)
    ]


def test_loss_is_the_mean_of_each_task_whatever_the_padding():
    sizes = (7, 1, 4)
    logits, labels = 3 * torch.randn(3, 7, C), labelled(sizes, 7)
    expected = [cross_entropy(logits[i, :n], labels[i, :n]) for i, n in enumerate(sizes)]
    assert_close(task_loss(logits, labels), torch.stack(expected))
    assert_close(task_loss(logits[1], labels[1]), expected[1])
    # What lies under the padding does not count, neither in the loss nor in its slope.
    wild = logits.masked_fill((labels == PADDING_LABEL)[..., None], 1e9).requires_grad_()
    assert_close(task_loss(wild, labels), torch.stack(expected))
    task_loss(wild, labels).sum().backward()
    assert (wild.grad[labels == PADDING_LABEL] == 0).all() and (wild.grad[labels != PADDING_LABEL] != 0).any()


def test_equal_logits_lose_log_c():
    assert_close(task_loss(torch.zeros(2, 5, C), labelled((5, 2), 5)), torch.full((2,), math.log(C)))


def test_a_task_without_examples_loses_nothing():
    logits = torch.randn(2, 3, C, requires_grad=True)
    loss = task_loss(logits, labelled((0, 2), 3))
    assert loss[0] == 0 and loss[1] > 0
    loss.sum().backward()
    assert logits.grad.isfinite().all() and (logits.grad[0] == 0).all()


def test_accuracy_counts_right_answers_and_examples():
    labels = torch.tensor([[0, 1, 2, PADDING_LABEL], [3, PADDING_LABEL, PADDING_LABEL, PADDING_LABEL]])
    chosen = torch.tensor([[0, 1, 3, 0], [3, 3, 3, 3]])
    right, count = count_correct(torch.nn.functional.one_hot(chosen, C).float(), labels)
    assert right.tolist() == [2, 1] and count.tolist() == [3, 1]


def test_accuracy_of_several_networks_per_task():
    logits, labels = torch.randn(2, 5, 6, C), labelled((6, 3), 6)
    right, count = count_correct(logits, labels[:, None].expand(-1, 5, -1))
    for k in range(5):
        alone = count_correct(logits[:, k], labels)
        assert torch.equal(right[:, k], alone[0]) and torch.equal(count[:, k], alone[1])


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.0])
def test_resplit_parts_all_examples(fraction):
    batch = collate([task(7, 3), task(2, 1), task(20, 9)])
    before = [s | q for s, q in zip(marked(batch.support), marked(batch.query), strict=True)]
    split = resplit(batch, fraction)
    for all_of_it, support, query in zip(before, marked(split.support), marked(split.query), strict=True):
        assert not support & query and support | query == all_of_it
        assert len(support) == round(fraction * len(all_of_it))
    assert torch.equal(split.embeds, batch.embeds) and split.context is batch.context


def test_resplit_with_a_fraction_per_task():
    split = resplit(collate([task(5, 5), task(4, 6)]), torch.tensor([0.2, 1.0]))
    assert [len(part) for part in marked(split.support)] == [2, 10]
    assert [len(part) for part in marked(split.query)] == [8, 0]


def test_resplit_is_random_and_fair():
    batch = collate([task(5, 3), task(3, 2)])
    torch.manual_seed(1)
    drawn = [resplit(batch, 0.5).support.labels != PADDING_LABEL for _ in range(600)]
    torch.manual_seed(1)
    assert torch.equal(resplit(batch, 0.5).support.labels != PADDING_LABEL, drawn[0])
    often = torch.stack(drawn).float().mean(dim=0)
    valid = torch.cat([batch.support.labels, batch.query.labels], dim=1) != PADDING_LABEL
    assert (often[~valid] == 0).all()
    assert_close(often[0][valid[0]], torch.full((8,), 0.5), atol=0.08, rtol=0)
    assert_close(
        often[1][valid[1]], torch.full((5,), 0.4), atol=0.08, rtol=0
    )  # two and a half of five: to even, two


def test_calibration_error_by_hand():
    confidence = torch.tensor([0.95, 0.95, 0.55, 0.55, 1.0])
    right = torch.tensor([True, False, True, True, True])
    # Ten bins: the last has 0.95, 0.95, 1.0 with two right; the sixth has 0.55 twice, both right.
    assert expected_calibration_error(confidence, right, 10) == pytest.approx((2.9 - 2 + 2 - 1.1) / 5)
    assert expected_calibration_error(torch.tensor([1.0, 1.0]), torch.tensor([True, True])) == 0
