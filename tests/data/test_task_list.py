"""Tasks of one's own, read in batches."""

import pytest
import torch

from weightgen import Examples, InputError, TaskBatch
from weightgen.data import TaskList
from weightgen.tasks import PADDING_LABEL, collate


def single(examples, shape=(3,), embed=2):
    inputs, labels = torch.randn(examples, *shape), torch.randint(2, (examples,))
    return TaskBatch(
        Examples(inputs, labels), Examples(inputs + 1, labels), torch.randn(embed), {"scale": torch.ones(1)}
    )


class Tasks(torch.utils.data.Dataset):
    questions = ["few", "more", "most"]

    def __init__(self):
        torch.manual_seed(0)
        self.items = [single(2), single(5), single(7)]

    def __len__(self):
        return 3

    def __getitem__(self, row):
        return self.items[row]


def test_batches_are_those_of_collate():
    items = Tasks()
    tasks = TaskList(items)
    assert tasks.questions == ["few", "more", "most"] and tasks.sizes == [4, 10, 14]
    whole, expected = tasks.batch(), collate(items.items)
    assert torch.equal(whole.query.inputs, expected.query.inputs)
    assert torch.equal(tasks.batch([2, 0]).support.labels, expected.support.labels[[2, 0]])
    assert torch.equal(tasks.subset([1]).batch().context["scale"], torch.ones(1, 1))
    assert tasks.subset([2, 1]).describe(0) == "task 2 ('most')"


def test_some_examples_are_drawn_of_each_task():
    tasks = TaskList([single(3, (2, 4)), single(6, (2, 4))])
    batch = tasks.batch([0, 1], examples=4)
    assert batch.support.inputs.shape == (2, 4, 2, 4)
    assert (batch.support.labels != PADDING_LABEL).sum(dim=1).tolist() == [3, 4]
    known = tasks.batch([1]).support.inputs[0]
    rows = [int((known == one).flatten(1).all(1).nonzero()[0, 0]) for one in batch.support.inputs[1]]
    assert len(set(rows)) == 4
    assert torch.equal(batch.support.labels[1], tasks.batch([1]).support.labels[0, rows])


@pytest.mark.parametrize(
    ("tasks", "questions", "reason"),
    [
        ([], None, "at least one task, got none"),
        ([single(2), 3], None, "task 1 is int: expected a TaskBatch of one task"),
        ([collate([single(2)])], None, "task 0 is a batch of tasks"),
        ([single(2), single(2, embed=3)], None, "task 1 has an embedding of 3 numbers, task 0 one of 2"),
        ([single(2)], ["a", "b"], "a text for each of 1 tasks, got 2"),
    ],
)
def test_what_is_no_list_of_tasks(tasks, questions, reason):
    with pytest.raises(InputError, match=reason):
        TaskList(tasks, questions)
