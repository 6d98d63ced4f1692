"""The page about a network of one's own is run as it stands."""

import runpy

import pytest


@pytest.mark.slow
def test_the_page_runs(root, capsys):
    runpy.run_path(str(root / "docs/tutorials/own_network.py"))
    assert "sampled from the description" in capsys.readouterr().out
