"""The authors' file format: read, written, refused."""

import gzip
import json

import pytest

from weightgen.data.meta_vqa.release import export_release, read_release
from weightgen.errors import InputError

ONE = {"train": [["i1", "a"], ["i2", "b"]], "test": [["i3", "b"]], "answers": ["b", "a"]}


@pytest.fixture
def files(tmp_path):
    train = {f"Train {n}?": ONE for n in range(10)}
    (tmp_path / "train.json").write_text(json.dumps(train))
    (tmp_path / "test.json.gz").write_bytes(gzip.compress(json.dumps({"Tést?": ONE}).encode()))
    return tmp_path / "train.json", tmp_path / "test.json.gz"


def test_read(files):
    splits, sources = read_release(*files, validation_fraction=0.2)
    assert {name: len(tasks) for name, tasks in splits.items()} == {"train": 8, "validation": 2, "test": 1}
    task = splits["test"][0]
    assert task.answers == ["b", "a"]  # their order is the file's, not that of the pairs
    assert (task.support_images, task.support_labels) == (["i1", "i2"], [1, 0])
    assert (task.query_images, task.query_labels) == (["i3"], [0])
    assert [source["name"] for source in sources] == ["train.json", "test.json"]


def test_round_trip_whatever_the_validation_slice(files, tmp_path):
    splits, _ = read_release(*files, validation_fraction=0.3, seed=5)
    export_release(splits, tmp_path / "out", seed=5)
    assert (tmp_path / "out" / "meta_train.json").read_bytes() == files[0].read_bytes()
    assert json.loads((tmp_path / "out" / "meta_test.json").read_text()) == {"Tést?": ONE}


def test_export_to_an_existing_folder(files, tmp_path):
    splits, _ = read_release(*files)
    export_release(splits, tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        export_release(splits, tmp_path / "out")
    export_release({"test": splits["test"]}, tmp_path / "out", overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["meta_test.json"]
    with pytest.raises(InputError, match="holds more than an earlier export"):
        export_release(splits, tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "Expected `object`, got `array`.*expected {question:"),
        ('{"Q?": {"train": [], "answers": []}}', "missing required field `test`"),
        ('{"Q?": {"train": [["i", 3]], "test": [], "answers": []}}', r"Expected `str`, got `int`"),
        (json.dumps({"Q?": {**ONE, "answers": ["a"]}}), "'Q\\?': expected 'answers' to name each"),
        (json.dumps({"Q?": {**ONE, "answers": ["a", "b", "c"]}}), "expected 'answers' to name each"),
        (json.dumps({"Q?": {**ONE, "answers": ["a", "b", "b"]}}), "expected 'answers' to name each"),
        (json.dumps({"Q?": {**ONE, "test": []}}), "expected pairs in both"),
        (json.dumps({"Train 3?": ONE}), "'Train 3\\?' is in .*train.json too"),
        (json.dumps({"Q?": ONE})[:-3], "truncated"),
    ],
)
def test_refused(content, told, files, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(content)
    with pytest.raises(InputError, match=told) as caught:
        read_release(files[0], wrong)
    assert str(caught.value).startswith(str(wrong))
    with pytest.raises(InputError, match="nowhere.json: cannot be read, it is missing"):
        read_release(tmp_path / "nowhere.json", files[1])
