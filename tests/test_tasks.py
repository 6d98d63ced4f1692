from collections import Counter

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from weightgen import Examples, InputError, TaskBatch
from weightgen.tasks import TaskBatchSampler, batches, collate, random_subset


def task(support, query, answers):
    return TaskBatch(
        support=Examples(torch.randn(support, 4), torch.zeros(support, dtype=torch.int64)),
        query=Examples(torch.randn(query, 4), torch.ones(query, dtype=torch.int64)),
        embeds=torch.randn(6),
        context={"answers": torch.randn(answers, 4), "answer_mask": torch.ones(answers, dtype=torch.bool)},
    )


def test_collate_pads_ragged_tasks():
    tasks = [task(2, 5, 3), task(7, 1, 2)]
    batch = collate(tasks)
    assert batch.support.inputs.shape == (2, 7, 4)
    assert batch.query.labels.tolist() == [[1] * 5, [1] + [-100] * 4]
    assert batch.embeds.shape == (2, 6)
    assert batch.context["answers"].shape == (2, 3, 4)
    assert batch.context["answer_mask"].tolist() == [[True, True, True], [True, True, False]]
    assert batch.context["answer_mask"].dtype == torch.bool
    assert torch.equal(batch.support.inputs[0, :2], tasks[0].support.inputs)
    assert torch.equal(batch.support.inputs[0, 2:], torch.zeros(5, 4))


def test_collate_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="no tasks"):
        collate([])
    with pytest.raises(InputError, match="same context"):
        collate([task(1, 1, 2), task(1, 1, 2)._replace(context={})])
    with pytest.raises(InputError, match="cannot stack shapes"):
        collate([task(1, 1, 2), task(1, 1, 2)._replace(support=Examples(torch.zeros(2), torch.zeros(1)))])


SIZES = st.lists(st.integers(0, 1000), min_size=1, max_size=60)


@given(sizes=SIZES, batch_size=st.integers(1, 20), seed=st.integers(0, 2**40))
def test_every_task_comes_once_an_epoch(sizes, batch_size, seed):
    sampler = TaskBatchSampler(sizes, batch_size, steps=0, seed=seed)
    for epoch in range(3):
        flat = [index for batch in sampler.epoch(epoch) for index in batch]
        assert sorted(flat) == list(range(len(sizes)))
        assert len(sampler.epoch(epoch)) == sampler.steps_per_epoch
        assert max(map(len, sampler.epoch(epoch))) <= batch_size


@given(sizes=SIZES, batch_size=st.integers(1, 20), steps=st.integers(0, 40), start=st.integers(0, 50))
def test_a_later_start_sees_what_the_whole_run_sees(sizes, batch_size, steps, start):
    whole = list(TaskBatchSampler(sizes, batch_size, steps, seed=3))
    rest = TaskBatchSampler(sizes, batch_size, steps, seed=3, start_step=start)
    assert len(whole) == steps
    assert list(rest) == whole[start:]
    assert len(rest) == len(whole[start:])
    assert list(rest) == list(rest)


def test_epochs_and_seeds_differ():
    sampler = TaskBatchSampler(range(1, 101), 8, steps=1, seed=0)
    assert sampler.epoch(0) != sampler.epoch(1)
    assert sampler.epoch(0) != TaskBatchSampler(range(1, 101), 8, steps=1, seed=1).epoch(0)
    neighbours = Counter(frozenset(batch) for epoch in range(5) for batch in sampler.epoch(epoch))
    assert max(neighbours.values()) < 5  # a batch is not the same tasks for ever


def test_batches_are_little_padded():
    sizes = [int(x) for x in torch.distributions.LogNormal(3.5, 0.9).sample((870,))]
    sampler = TaskBatchSampler(sizes, 32, steps=1)

    def fill(all_batches):
        held = sum(sizes)
        return held / sum(len(batch) * max(sizes[i] for i in batch) for batch in all_batches)

    shuffled = torch.randperm(870).split(32)
    assert fill(sampler.epoch(0)) > 0.65
    assert fill(batches(sizes, 32)) > 0.8
    assert fill(sampler.epoch(0)) > 2 * fill([b.tolist() for b in shuffled])


def test_evaluation_order_is_by_size():
    assert batches([5, 1, 9, 1], 3) == [[1, 3, 0], [2]]


def test_it_feeds_a_loader_and_survives_accelerate():
    tasks = [task(n, 2, 2) for n in range(1, 8)]
    sampler = TaskBatchSampler([len(t.support.labels) for t in tasks], 3, steps=7, seed=1, start_step=2)
    loader = Accelerator(cpu=True).prepare(DataLoader(tasks, batch_sampler=sampler, collate_fn=collate))
    seen = list(loader)
    assert len(seen) == len(loader) == 5
    assert isinstance(seen[0], TaskBatch)
    for batch, indices in zip(seen, sampler, strict=True):
        assert torch.equal(batch.embeds, torch.stack([tasks[i].embeds for i in indices]))


def test_nonsense_is_refused():
    for arguments in ({"sizes": [], "batch_size": 1}, {"sizes": [1], "batch_size": 0}):
        with pytest.raises(InputError):
            TaskBatchSampler(**arguments, steps=1)
    with pytest.raises(InputError, match="seed"):
        TaskBatchSampler([1], 1, steps=1, seed=-1)


def test_random_subsets_are_exact_and_nested():
    for count, share in ((870, 0.5), (646, 0.1), (7, 0.1), (5, 1.0)):
        chosen = random_subset(count, share, seed=3)
        assert len(chosen) == len(set(chosen)) == round(share * count)
        assert chosen == sorted(chosen) and set(chosen) <= set(range(count))
    assert set(random_subset(870, 0.1)) < set(random_subset(870, 0.5))
    assert random_subset(870, 0.5) != list(range(435)) != random_subset(870, 0.5, seed=1)
    for share in (0, -0.1, 1.1, 1e-6):
        with pytest.raises(InputError, match="one of 870 tasks"):
            random_subset(870, share)
