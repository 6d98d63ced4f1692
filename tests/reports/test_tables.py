"""Tables and reports of results."""

import json

import pytest

from weightgen.reports.tables import (
    flat_rows,
    markdown_table,
    over_seeds,
    percent,
    shots_key,
    spread,
    spread_by_shots,
    tables_by_shots,
    title_of,
    versions,
    write_report,
)


def test_spread_is_the_sample_deviation():
    found = spread([0.5, 0.6, 0.7])
    assert found["mean"] == pytest.approx(0.6) and found["std"] == pytest.approx(0.1)
    assert percent(found) == "60.0 ± 10.0"
    assert spread([0.25])["std"] is None and percent(spread([0.25])) == "25.0" == percent(0.25)


def test_markdown_table():
    assert markdown_table(["", "x", "y"], [["a", "1", "2"]]) == "|  | x | y |\n|---|---|---|\n| a | 1 | 2 |\n"


def test_rows_of_all_levels():
    tree = {"chance": 0.25, "hyperldm": {"0.0": 0.5, "1.5": 0.625}, "few_shot": {"maml": {"1": 0.5}}}
    assert flat_rows(tree) == {
        "chance": 0.25,
        "hyperldm, 0.0": 0.5,
        "hyperldm, 1.5": 0.625,
        "few_shot, maml, 1": 0.5,
    }


def test_accuracy_by_shots_of_any_splits():
    seen = {"unseen_classes": {"chance": [{"1": 0.5, "all": 0.5}, {"1": 0.7, "all": 0.5}]}}
    accuracy = spread_by_shots(seen)
    assert accuracy["unseen_classes"]["chance"]["1"]["mean"] == pytest.approx(0.6)
    text = tables_by_shots(accuracy)
    assert "Tasks: unseen classes" in text and "|  | 1 per class | all examples |" in text
    assert "| chance | 60.0 ± 14.1 | 50.0 ± 0.0 |" in text
    assert [shots_key(shots) for shots in (0, 5, None)] == ["0", "5", "all"]
    assert title_of("novel_composition") == "novel composition"
    assert over_seeds(1) == "one training seed" and "3 training seeds" in over_seeds(3)


def test_a_report_is_written_for_machines_and_for_people(tmp_path, capsys):
    write_report(tmp_path / "new/a.b", {"x": 1}, "# text\n")
    assert json.loads((tmp_path / "new/a.b.json").read_text()) == {"x": 1}
    assert (tmp_path / "new/a.b.md").read_text() == "# text\n" == capsys.readouterr().out
    write_report(tmp_path / "new/a.b", {"x": 2}, "again\n")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.b.json", "a.b.md"]


def test_versions_are_of_what_is_installed():
    import torch

    assert versions()["torch"] == torch.__version__.split("+")[0] or versions()["torch"] == torch.__version__
