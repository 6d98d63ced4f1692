"""Learning rates are functions of the step: the recipe's own, or those of diffusers by name."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.optimization import get_scheduler

from weightgen.errors import InputError
from weightgen.training.schedules import SCHEDULES, check_schedule, learning_rate, warmup_cosine

STEPS, WARMUP = 20, 5


def settings(**changes):
    return SimpleNamespace(lr=0.3, steps=STEPS, **{"lr_scheduler": None, "lr_warmup_steps": None, **changes})


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_diffusers(name):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=WARMUP, num_training_steps=STEPS)
    for step in range(STEPS):
        ours = learning_rate(settings(lr_scheduler=name), step, WARMUP)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_without_a_name_the_recipe_decides():
    for step in range(STEPS):
        assert learning_rate(settings(), step, WARMUP) == 0.3 * warmup_cosine(step, STEPS, WARMUP)
        assert learning_rate(settings(), step, WARMUP, 0.5) == 0.15
        assert learning_rate(settings(lr_warmup_steps=2), step, WARMUP) == 0.3 * warmup_cosine(step, STEPS, 2)


def test_an_unknown_schedule():
    check_schedule(None)
    with pytest.raises(InputError, match="expected an lr_scheduler of constant, .*, got 'step'"):
        check_schedule("step")
