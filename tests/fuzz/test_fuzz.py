"""Nothing but an `InputError` of one line leaves the public interface, whatever it is given; a short run of every target.

`make fuzz` makes a long one, and writes results/trust/fuzz.json.
"""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.targets import TARGETS, made
from weightgen.errors import InputError

CALM = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.function_scoped_fixture,
]


def check(target, case):
    """Use one input."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.use(case)
    except InputError as error:
        assert "\n" not in str(error).strip()


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_input_errors(name, tmp_path):
    target = made(name, tmp_path)

    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=CALM, derandomize=True)
    @given(target.inputs)
    def attack(case):
        check(target, case)

    attack()
