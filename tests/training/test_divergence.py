"""A loss that is not finite, or far above the first one, is told with the tasks of the step."""

import pytest
import torch
from accelerate import Accelerator

from weightgen import InputError
from weightgen.protocols import Outcome
from weightgen.training.divergence import Health, check_tasks_finite
from weightgen.training.loop import update
from weightgen.training.runs import Run
from weightgen.training.shares import outcome


@pytest.fixture
def run(tmp_path):
    made = Run(Accelerator(), "train_x", tmp_path / "out", {}, {})
    made.tasks = [4, 7]
    return made


def step(run, parameter, value):
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    update(run, optimizer, parameter.sum() * 0 + value, [parameter], lr=0.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(run, value):
    with pytest.raises(
        InputError, match=r"train_x .*the loss became (nan|inf) at step 0, with the tasks 4, 7"
    ):
        step(run, torch.ones(1, requires_grad=True), value)


def test_a_loss_that_rises_is_reported_once(run, capsys):
    parameter = torch.ones(1, requires_grad=True)
    for value in (0.7, 2.0, 3.0):
        step(run, parameter, value)
    assert capsys.readouterr().err == ""
    for value in (50.0, 60.0):
        step(run, parameter, value)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the loss rose from 0.7 to 50 by step 0, with the tasks 4, 7" in said


def test_a_loss_that_stays_high_ends_the_run(run):
    run.settings = {"steps": 6}
    parameter = torch.ones(1, requires_grad=True)
    for value in (0.7, 50.0, 60.0, 0.5, 70.0):  # three of six steps: half of them
        step(run, parameter, value)
    with pytest.raises(
        InputError, match="was above 5.1 in 4 of 1 steps: training diverged; write a lower lr"
    ):
        step(run, parameter, 80.0)


def test_what_is_remembered_is_in_checkpoints(run):
    optimizer = torch.optim.SGD([torch.ones(4)], lr=0.1)
    health, other = Health(optimizer), Health(None)
    other.load_state_dict(health.state_dict())
    assert other.first is None and other.risen == 0 and other.largest == health.largest == 2000.0
    health.first, health.risen = 0.5, 3
    other.load_state_dict(health.state_dict())
    assert (other.first, other.risen) == (0.5, 3)
    other.load_state_dict({})  # of an earlier version
    assert other.first == 0.5


def test_weights_that_explode_end_the_run(run):
    parameter = torch.ones(4, requires_grad=True)
    optimizer = torch.optim.Adam([parameter])
    update(run, optimizer, parameter.sum(), [parameter], lr=10.0)
    for lr in (1e6, float("inf")):
        with pytest.raises(InputError, match="norm of the weights is .*1000 times that of the start"):
            update(run, optimizer, parameter.sum(), [parameter], lr=lr)


class Named:
    """Tasks that know their questions."""

    kept = list(range(20))

    def describe(self, task):
        return f"task {task} ('what')"


def squares(batch):
    return Outcome((batch[0] ** 2).mean(), {})


def test_the_one_task_with_nan_is_named(run):
    run.settings, run.source = {}, Named()
    inputs = torch.ones(2, 3)
    assert outcome(run, squares, (inputs,)).loss == 1
    inputs[1, 2] = torch.nan
    with pytest.raises(
        InputError, match=r"the loss became nan at step 0: it is so for task 7 \('what'\) alone"
    ):
        outcome(run, squares, (inputs,))
    run.tasks = []
    with pytest.raises(InputError, match="it is so for example 1 alone"):
        outcome(run, squares, (inputs,))
    with pytest.raises(InputError, match="nan at step 0: training stops"):  # all: no data, but the weights
        outcome(run, squares, (inputs * torch.nan,))


def test_values_of_tasks_that_are_not_finite():
    values = torch.ones(2, 3, 4)
    check_tasks_finite(values, Named(), "adapted weights")
    values[1, 2, 0] = torch.inf
    with pytest.raises(InputError, match=r"the adapted weights of task 2 \('what'\) .* \(draw 1\)"):
        check_tasks_finite(values, Named(), "adapted weights")
