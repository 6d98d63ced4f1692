"""A loss that is not finite, or far above the first one, is told with the tasks of the step."""

import pytest
import torch
from accelerate import Accelerator

from weightgen import InputError
from weightgen.training.loop import update
from weightgen.training.runs import Run


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
