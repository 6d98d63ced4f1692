"""The page about a network of one's own is run as it stands."""

import re
import runpy

import pytest


@pytest.mark.slow
def test_the_page_runs(root, capsys):
    runpy.run_path(str(root / "docs/tutorials/own_network.py"))
    assert "sampled from the description" in capsys.readouterr().out


def test_the_short_example_runs_in_forty_lines(root, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", (root / "docs/extending.md").read_text(), re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 40
    exec(example, {})
    found = float(capsys.readouterr().out.split(": ")[1])
    assert found == pytest.approx(
        float(re.search(r"It prints ([\d.]+)", (root / "docs/extending.md").read_text())[1]), abs=0.03
    )
