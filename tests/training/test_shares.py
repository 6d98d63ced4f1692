"""One batch for several processes: every process draws what one process would, and takes its own rows."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.utils.checkpoint import checkpoint

from weightgen.errors import InputError
from weightgen.nn.across_processes import gather_rows, shared_max, shared_mean
from weightgen.protocols import Outcome
from weightgen.tasks import PADDING_LABEL, Examples, TaskBatch, has_query
from weightgen.training.own_rows import own_rows, share_of
from weightgen.training.processes import check_precision, check_processes, on_main, speaks
from weightgen.training.shares import ByExample, outcome

B = 5
WHOLE = torch.arange(B * 3.0).reshape(B, 3)


def noisy(x):
    return ((x + torch.randn_like(x)) ** 2).sum()


# What is drawn, as a function of a batch of examples; the first dimension is the examples.
DRAWS = {
    "rand": lambda x: torch.rand(len(x), 4),
    "randn": lambda x: torch.randn(len(x), 4),
    "randint": lambda x: torch.randint(2, 100, (len(x),)),
    "like": lambda x: x + torch.randn_like(x),
    "transposed": lambda x: torch.randn_like(x.T.contiguous().T),
    "in_place": lambda x: torch.empty_like(x).normal_(),
    "bernoulli": lambda x: torch.bernoulli(torch.full_like(x, 0.5)),
    "dropout": lambda x: nn.functional.dropout(x, 0.5),
    "vmap": lambda x: vmap(lambda row: row + torch.rand(3), randomness="different")(x),
    "gradients": lambda x: vmap(grad(noisy), randomness="different")(x),
    "checkpoint": lambda x: checkpoint(lambda y: y + torch.randn_like(y), x, use_reentrant=False),
    "normal": lambda x: torch.distributions.Normal(x, 1.0).rsample(),
}


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("name", DRAWS)
def test_rows_get_the_numbers_that_one_process_would_draw(name, processes):
    torch.manual_seed(0)
    expected, after = DRAWS[name](WHOLE), torch.rand(())
    for process in range(processes):
        torch.manual_seed(0)
        rows = share_of(B, process, processes, pair=True)
        with ByExample([B], process, processes, pair=True):
            found = DRAWS[name](WHOLE[rows])
        assert torch.equal(found, expected[rows])
        assert torch.equal(torch.rand(()), after)  # all leave the same random state


def test_two_sizes_and_one_number_for_all():
    torch.manual_seed(0)
    expected = torch.rand(9), torch.rand(3), torch.rand(())
    torch.manual_seed(0)
    with ByExample([9, 3], 1, 2):
        found = torch.rand(4), torch.rand(1), torch.rand(())
    assert torch.equal(found[0], expected[0][1::2]) and torch.equal(found[1], expected[1][1::2])
    assert torch.equal(found[2], expected[2])


def test_a_generator_of_its_own_is_left_alone():
    generator = torch.Generator()
    expected = torch.rand(7, generator=generator.manual_seed(3))
    with ByExample([B], 0, 2):
        assert torch.equal(torch.rand(7, generator=generator.manual_seed(3)), expected)


def test_numbers_that_belong_to_no_example_are_refused():
    with pytest.raises(InputError, match="draw by example"), ByExample([B], 0, 2):
        torch.rand(7, 2)


def tasks(count):
    labels = torch.zeros(count, 2, dtype=torch.int64)
    part = Examples(torch.arange(count * 2.0).reshape(count, 2), labels)
    return TaskBatch(part, part, torch.arange(float(count))[:, None], {"answers": torch.ones(count, 3)})


def test_rows_of_a_process():
    shares = [own_rows(tasks(B), process, 2) for process in range(2)]
    assert [share.embeds.flatten().tolist() for share in shares] == [[0, 2, 4], [1, 3]]
    assert all(
        len(value) == len(s.embeds) for s in shares for value in (s.support.inputs, s.context["answers"])
    )


def test_a_single_task_gets_a_companion_that_does_not_count():
    own = own_rows(tasks(3), 1, 2)
    assert own.embeds.flatten().tolist() == [1, 1]
    assert has_query(own).tolist() == [True, False]


def test_a_process_without_rows_computes_one_that_does_not_count():
    own = own_rows(tasks(1), 1, 2)
    assert len(own.embeds) == 1
    assert (own.support.labels == 0).all() and (own.query.labels == PADDING_LABEL).all()
    latents, _, few = own_rows((torch.rand(4, 2), torch.rand(4, 2), tasks(1)), 1, 2)
    assert len(latents) == 2 and (few.query.labels == PADDING_LABEL).all()
    assert own_rows((torch.rand(4, 2), None), 0, 2)[1] is None


def test_a_batch_without_labels_must_suffice():
    run = type("Run", (), {"accelerator": Two, "settings": {}})
    with pytest.raises(InputError, match="cannot share a batch of 1"):
        outcome(run, lambda given: Outcome(given, {}), (torch.rand(1, 2), torch.rand(1, 2)))


class Two:
    """What is asked of an accelerator."""

    num_processes, process_index, gradient_accumulation_steps, mixed_precision = 2, 1, 1, "no"
    is_main_process = True


def test_one_process_gets_the_batch_itself():
    one = type(
        "Run", (), {"accelerator": type("One", (), {"num_processes": 1, "process_index": 0}), "settings": {}}
    )
    batch = tasks(3)
    given = []
    assert outcome(one, lambda got: given.append(got) or Outcome(torch.ones(()), {}), batch).loss == 1
    assert given[0] is batch
    values = torch.rand(7)
    assert torch.equal(shared_mean(values, values > 2), values.mean())
    assert gather_rows(values) is values and shared_max(torch.tensor(3)) == 3


def test_what_the_launcher_asks_for_must_be_a_setting(monkeypatch):
    check_processes(Two, 2)
    monkeypatch.setattr(Two, "gradient_accumulation_steps", 2)
    with pytest.raises(InputError, match="a setting of the recipe"):
        check_processes(Two, 2)
    check_precision("bf16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    check_precision("bf16")
    with pytest.raises(InputError, match="the launcher asks for mixed_precision=bf16, and the recipe for no"):
        check_precision("no")
    with pytest.raises(InputError, match="expected mixed_precision=no"):
        check_precision("fp16")


def test_the_number_of_processes_has_limits():
    with pytest.raises(InputError, match="batch_size=2 or more"):
        check_processes(Two, 1)
    with pytest.raises(InputError, match="2 processes with 3 parts: write batch_size=6"):
        check_processes(Two, 5, parts=3)
    with pytest.raises(InputError, match="uses 1 process"):
        check_processes(Two, 8, 1)


def test_what_the_main_process_raises(monkeypatch):
    def work():
        raise InputError("no")

    monkeypatch.setattr(Two, "num_processes", 1)
    with pytest.raises(InputError, match="no"):
        on_main(Two, work)
    monkeypatch.setattr(Two, "is_main_process", False)
    on_main(Two, work)
    monkeypatch.setenv("RANK", "1")
    assert not speaks()
