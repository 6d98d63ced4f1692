"""Zoos and folders of networks that lie: each is refused in one line, before memory is taken."""

import hashlib
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from weightgen import InputError
from weightgen.data.zoo import Zoo
from weightgen.data.zoo.importing import import_zoo
from weightgen.data.zoo.text import zoo_text
from weightgen.data.zoo.writer import save_zoo
from weightgen.storage.limits import VARIABLE
from weightgen.weights import WeightSpace

SPACE = WeightSpace((("a.w", (2, 3)), ("a.b", (2,))))
ROWS = {
    "weights": torch.ones(6, 8),
    "task": torch.tensor([0, 1, 2] * 2),
    "draw": torch.tensor([0] * 3 + [1] * 3),
}


@pytest.fixture
def zoo(tmp_path):
    torch.manual_seed(0)
    tasks = [{"text": f"text {number}", "split": "train"} for number in range(3)]
    save_zoo(tmp_path / "zoo", SPACE, torch.randn(2, 3, 8), tasks=tasks)
    return tmp_path / "zoo"


def refused(action):
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(folder):
    zoo = Zoo.load(folder)
    zoo.verify()
    return zoo_text(zoo), zoo.whole()


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name in ("tasks", "draws") for value in (10**6, 10**12, 10**30, -1, 0, 2.0, "3", None, True)),
        {"tasks": 10**6, "draws": 10**6},
        *({"shards": value} for value in ([], {}, None, "x", [None], [1])),
        *({"space": value} for value in ([["a", [-2, -4]]], [["a", [8]], ["a", [0]]], {"ab": 1}, [["a", [10**20]]], [])),
        *({"dtype": value} for value in ("float16", "float64", None)),
    ],
    ids=lambda change: str(change)[:60],
)  # fmt: skip
def test_an_index_that_lies(zoo, change):
    index = json.loads((zoo / "zoo.json").read_text())
    (zoo / "zoo.json").write_text(json.dumps(index | change))
    refused(lambda: read(zoo))


@pytest.mark.parametrize(
    ("key", "value"),
    [("file", "../zoo/weights-00000.safetensors"), ("file", ".."), ("rows", -1), ("rows", 10**15), ("rows", 1e400), ("bytes", 1e400)],
)  # fmt: skip
def test_an_entry_of_a_shard_that_lies(zoo, key, value):
    index = json.loads((zoo / "zoo.json").read_text())
    index["shards"][0][key] = value
    (zoo / "zoo.json").write_text(json.dumps(index))
    refused(lambda: read(zoo))


def test_a_table_of_tasks_and_draws_that_takes_too_much(zoo, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.00000004")
    assert VARIABLE in refused(lambda: Zoo.load(zoo))


@pytest.mark.parametrize(
    "change",
    [
        {"task": torch.arange(9)},
        {"draw": torch.zeros(2, dtype=torch.int64)},
        {"task": torch.zeros(6, 2, dtype=torch.int64)},
        {"task": torch.tensor(0)},
        {"task": torch.full((6,), torch.nan)},
        {"task": torch.tensor([0, 1, 2, 0, 1, 2**40])},
        {"weights": torch.ones(6, 8, dtype=torch.float16)},
        {"weights": torch.ones(6, 8, dtype=torch.float64)},
        {"weights": torch.ones(6, 8, 1)},
        {"weights": torch.tensor(1.0)},
    ],
    ids=lambda change: str([(name, value.dtype, tuple(value.shape)) for name, value in change.items()]),
)
def test_a_shard_that_holds_something_else(zoo, change):
    index = json.loads((zoo / "zoo.json").read_text())
    entry = index["shards"][0]
    path = zoo / entry["file"]
    save_file(ROWS | change, path)
    entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (zoo / "zoo.json").write_text(json.dumps(index))
    assert str(zoo) in refused(lambda: read(zoo))


@pytest.mark.parametrize(
    "tasks",
    [
        '[{"text": "a", "split": ["x"]}, {"text": "b"}, {"text": "c"}]',
        '[{"text": "a", "split": 5}, {"text": "b"}, {"text": "c"}]',
        '[{"text": "\\ud800"}, {"text": "b"}, {"text": "c"}]',
        '[{"split": "train"}, {"text": "b"}, {"text": "c"}]',
    ],
)
def test_texts_that_are_none(zoo, tasks):
    (zoo / "tasks.json").write_text(tasks)
    assert "tasks.json is" in refused(lambda: read(zoo))


@pytest.fixture
def networks(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        save_file({"l.weight": torch.ones(2, 3)}, tmp_path / f"in/{name}.safetensors")
    return tmp_path / "in"


def imported(folder, texts=("one", "two")):
    rows = [json.dumps({"name": name, "text": text}) for name, text in zip("ab", texts, strict=True)]
    (folder.parent / "about.jsonl").write_text("\n".join(rows))
    try:
        return import_zoo(folder, folder.parent / "out", folder.parent / "about.jsonl")
    finally:
        assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_names_and_texts_that_cannot_be_written(networks):
    assert "surrogates not allowed" in refused(lambda: imported(networks, ("one", "\ud800")))
    os.rename(networks / "b.safetensors", os.fsencode(networks) + b"/b\xff.safetensors")
    assert "'b\\udcff' is a name that cannot be written down" in refused(lambda: imported(networks))
    assert not (networks.parent / "out").exists()


def test_a_file_with_a_hole_of_many_gigabytes(networks):
    """Tar and the file system keep it in a few bytes."""
    size = 40 * 10**9
    head = json.dumps(
        {"l.weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    ).encode()
    with open(networks / "b.safetensors", "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + size)
    assert "would take 40.0 GB" in refused(lambda: imported(networks))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_of_an_adapter_that_json_does_not_have(tmp_path, number):
    for name in ("a", "b"):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        save_file({"q.lora_A.weight": torch.ones(2, 4)}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(
            f'{{"peft_type": "LORA", "r": 2, "lora_dropout": {number}}}'
        )
        (folder / "README.md").write_text(f"description: about {name}\n")
    assert "JSON" in refused(lambda: import_zoo(tmp_path / "in", tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
