"""What validation tasks choose."""

import pytest

from weightgen import InputError
from weightgen.reports.choice import best_setting, score_chosen

SCORES = {"validation": {0.1: 0.5, 0.3: 0.7, 1.0: 0.6}, "test": {0.1: 0.9, 0.3: 0.4, 1.0: 0.8}}


def test_the_setting_that_is_best_on_validation_tasks_is_scored_on_the_others():
    asked = []

    def score(split, setting):
        asked.append((split, setting))
        return SCORES[split][setting]

    row = score_chosen(score, ["validation", "test"], [0.1, 0.3, 1.0])
    assert row == {"test": 0.4, "validation": 0.7, "chosen": 0.3, "tried": SCORES["validation"]}
    assert [pair for pair in asked if pair[0] == "test"] == [("test", 0.3)]  # nothing else is looked at


def test_the_first_of_equal_settings():
    assert best_setting(lambda _: 0.5, ["a", "b"])[0] == "a"


def test_a_setting_that_diverges_is_left_out(capsys):
    def score(lr):
        if lr > 1:
            raise InputError(f"diverged at {lr}")
        return 0.5

    assert best_setting(score, [3.0, 0.5], "MAML") == (0.5, {0.5: 0.5})
    assert "MAML, 3.0: diverged at 3.0" in capsys.readouterr().out
    with pytest.raises(InputError, match="MAML: no setting can be used; 2.0: diverged at 2.0; 3.0"):
        best_setting(score, [2.0, 3.0], "MAML")
    with pytest.raises(InputError, match="none was given"):
        best_setting(score, [])
