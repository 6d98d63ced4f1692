"""Reports of several training seeds become one table, or one line says why not."""

import pytest

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.storage.files import read_json, write_json


def report(folder, name, **rows):
    splits = {split: {"chance": 0.25, "few_shot": {"maml": {"1": value}}} for split, value in rows.items()}
    known = {split: {"mean": value, "auroc": 0.5 + value / 2} for split, value in rows.items()}
    report = {"splits": splits, "tasks": dict.fromkeys(rows, 3), "familiarity": known}
    write_json(folder / f"{name}.json", report)
    return str(folder / f"{name}.json")


def test_mean_and_deviation_of_every_row(root, tmp_path):
    recipe = loaded(root, "studies/average_reports")
    paths = [report(tmp_path, "a", seen=0.5, unseen=0.2), report(tmp_path, "b", seen=0.7, unseen=0.4)]
    lead = ["few_shot, maml, 1", "chance"]
    recipe.main(recipe.Config(reports=paths, output=str(tmp_path / "out" / "table"), lead=lead))
    row = read_json(tmp_path / "out" / "table.json")["splits"]["seen"]["few_shot, maml, 1"]
    assert row["mean"] == pytest.approx(0.6) and row["std"] == pytest.approx(0.02**0.5)
    assert row["seeds"] == [0.5, 0.7]
    table = read_json(tmp_path / "out" / "table.json")
    assert table["lead"]["unseen"]["seeds"] == pytest.approx([-0.05, 0.15])
    assert table["familiarity"]["seen"]["auroc"]["mean"] == pytest.approx(0.8)
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| few_shot, maml, 1 | 60.0 ± 14.1 | 30.0 ± 14.1 |" in text and "over 2 training seeds" in text


def test_reports_of_different_kinds_are_refused(root, tmp_path):
    recipe = loaded(root, "studies/average_reports")
    paths = [report(tmp_path, "a", seen=0.5), report(tmp_path, "b", other=0.7)]
    for given, message in (
        (paths, "b.json has other splits"),
        ([], "at least one report"),
    ):
        with pytest.raises(InputError, match=message):
            recipe.main(recipe.Config(reports=given, output=str(tmp_path / "table")))
    write_json(tmp_path / "c.json", {"rows": {}})
    with pytest.raises(InputError, match=r"c\.json is no report"):
        recipe.main(recipe.Config(reports=[str(tmp_path / "c.json")], output=str(tmp_path / "table")))
