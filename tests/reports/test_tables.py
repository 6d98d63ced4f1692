"""Tables of results."""

import pytest

from weightgen.reports.tables import percent, spread, table, versions


def test_spread_is_the_sample_deviation():
    found = spread([0.5, 0.6, 0.7])
    assert found["mean"] == pytest.approx(0.6) and found["std"] == pytest.approx(0.1)
    assert percent(found) == "60.0 ± 10.0"
    assert spread([0.25])["std"] is None and percent(spread([0.25])) == "25.0"


def test_table():
    assert table(["x", "y"], {"a": ["1", "2"]}) == "|  | x | y |\n|---|---|---|\n| a | 1 | 2 |\n"


def test_versions_are_of_what_is_installed():
    import torch

    assert versions()["torch"] == torch.__version__.split("+")[0] or versions()["torch"] == torch.__version__
