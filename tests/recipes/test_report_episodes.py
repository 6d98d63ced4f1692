"""The table of few-shot classifiers: what stands in it, in which order, and what does not belong into one table."""

import pytest

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.storage.files import read_json, write_json

FACTS = {"protocol": "made_up", "split": "test", "episodes": 1000, "seed": 1}


@pytest.fixture(scope="module")
def study(root):
    return loaded(root, "studies/report_episodes")


def trained(kind, accuracy, shots=1, start=None, **options):
    hypernet = {"_component_": f"weightgen.hypernets.{kind}", **options}
    settings = {"hypernet": hypernet, "network": {"channels": 8}, "shots": shots, "start": start}
    results = {"transductive, disjoint": {"accuracy": accuracy, "interval": 0.62}}
    return FACTS | {"results": results, "episodes_trained": 6000, "training": {"settings": settings}}


def test_rows(study, tmp_path):
    folder = tmp_path / "results"
    write_json(folder / "a.json", trained("HyperTransformer", 45.04, generated=[4]))
    write_json(folder / "b.json", trained("ProtoNet", 41.0))
    write_json(folder / "c.json", trained("HyperTransformer", 60.0, shots=5, start="runs/a"))
    features = {
        "class means": {"accuracy": 30.0, "interval": 0.5},
        "logistic regression": {"accuracy": 31.0, "interval": 0.5},
    }
    write_json(folder / "d.json", FACTS | {"features": "pixels", "shots": 1, "results": features})
    for _ in range(2):  # the table itself lies there the second time
        study.main(study.Config(folder=str(folder), output=str(folder / "table")))
    rows = read_json(folder / "table.json")["rows"]
    assert [row["file"] for row in rows] == ["d", "d", "b", "a", "c"]
    lines = (folder / "table.md").read_text().splitlines()
    assert lines[4].startswith("| 1 | class means on pixels | `d` | – | – | 30.0 ± 0.5 |")
    assert (
        lines[7]
        == "| 1 | HyperTransformer, 8 channels, last layer generated | `a` | 6,000 | 45.0 ± 0.6 | – |"
    )
    assert (
        lines[8]
        == "| 5 | HyperTransformer, 8 channels, all layers generated | `c` | 6,000, begun at `a` | 60.0 ± 0.6 | – |"
    )


def test_wrong_folders(study, tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        study.main(study.Config(folder=str(tmp_path), output=str(tmp_path / "table")))
    write_json(tmp_path / "a.json", trained("ProtoNet", 41.0))
    write_json(tmp_path / "b.json", trained("ProtoNet", 41.0) | {"split": "validation"})
    with pytest.raises(InputError, match=r"b\.json is of another protocol, split"):
        study.main(study.Config(folder=str(tmp_path), output=str(tmp_path / "table")))
