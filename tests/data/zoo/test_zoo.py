"""A zoo on disk: what is written is read, killed writers go on with the same bytes, damage is told in one line."""

import json
import math

import pytest
import torch
from torch.testing import assert_close

from weightgen.data.zoo import Zoo, ZooWriter, save_zoo
from weightgen.data.zoo.encoding import encode_zoo
from weightgen.errors import InputError
from weightgen.hypernets import HVAE
from weightgen.nn import large
from weightgen.nn.standardizer import Standardizer
from weightgen.storage.files import write_json
from weightgen.weights import WeightSpace

SPACE = WeightSpace((("a.weight", (2, 3)), ("a.bias", (2,))))
P = SPACE.size


def write(folder, rows, shard_bytes=5 * P * 4, dtype="float32"):
    """A zoo of rows (weights, task, draw), three at a time."""
    folder.mkdir()
    writer = ZooWriter(folder, SPACE, dtype, shard_bytes)
    for begin in range(0, len(rows), 3):
        weights, tasks, draws = zip(*rows[begin : begin + 3], strict=True)
        writer.append(torch.stack(weights), tasks, draws)
    writer.finish(
        folder, [{"text": f"task {t}", "split": "train"} for t in range(max(r[1] for r in rows) + 1)]
    )
    return Zoo.load(folder)


@pytest.fixture
def rows():
    """Draws of four tasks in a mixed order; the last task has one only."""
    torch.manual_seed(0)
    places = [(t, r) for r in range(3) for t in (2, 0, 3, 1) if t != 3 or r == 0]
    return [(torch.randn(P), t, r) for t, r in places]


def test_rows_are_found_by_task_and_draw(tmp_path, rows):
    zoo = write(tmp_path / "zoo", rows)
    assert zoo.shape == (3, 4, P) and zoo.space == SPACE and zoo.counts.tolist() == [3, 3, 3, 1]
    assert len(zoo.index.shards) == 2 and zoo.index.rows == len(rows)
    for weights, task, draw in rows:
        assert torch.equal(zoo.at(torch.tensor([draw]), torch.tensor([task]))[0], weights)
    assert torch.equal(zoo.whole()[2, 3], zoo.whole()[0, 3])  # a task with fewer draws repeats them
    assert [task["text"] for task in zoo.tasks()] == [f"task {t}" for t in range(4)]
    ordered = [w for w, _, _ in sorted(rows, key=lambda row: (row[2], row[1]))]
    assert torch.equal(zoo.rows()[:], torch.stack(ordered)) and len(zoo.rows(tasks=[3, 1])) == 4
    assert torch.equal(zoo.rows(draw=0)[1:3], torch.stack(ordered[1:3]))
    zoo.verify()


def test_half_precision(tmp_path, rows):
    zoo = write(tmp_path / "zoo", rows, dtype="float16")
    assert zoo.read([0]).dtype == torch.float32
    assert_close(zoo.read([0])[0], rows[0][0], atol=2e-3, rtol=2e-3)
    with pytest.raises(InputError, match="too large for float16"):
        write(tmp_path / "large", [(torch.full((P,), 1e6), 0, 0)], dtype="float16")


def test_a_killed_writer_goes_on_with_the_same_bytes(tmp_path, rows):
    write(tmp_path / "whole", rows)
    weights = [row[0] for row in rows]
    first = ZooWriter(tmp_path / "parts", SPACE, shard_bytes=5 * P * 4)
    for number, (_, task, draw) in enumerate(rows):
        first.append(weights[number][None], [task], [draw])
        if number == 6:  # in the second shard
            state = {name: value.clone() for name, value in first.state_dict().items()}
    second = ZooWriter(tmp_path / "parts", SPACE, shard_bytes=5 * P * 4)
    second.load_state_dict(state)
    assert second.rows == 7
    for number, (_, task, draw) in enumerate(rows[7:], 7):
        second.append(weights[number][None], [task], [draw])
    (tmp_path / "again").mkdir()
    second.finish(tmp_path / "again")
    for path in sorted((tmp_path / "whole").glob("*.safetensors")):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    shard = tmp_path / "parts/weights-00000.safetensors"
    shard.unlink()  # its second name in the finished zoo stays
    shard.write_bytes(b"damage")
    with pytest.raises(InputError, match="missing or damaged"):
        ZooWriter(tmp_path / "parts", SPACE, shard_bytes=5 * P * 4).load_state_dict(state)
    Zoo.load(tmp_path / "again").verify()


def test_statistics_in_batches(tmp_path, rows, monkeypatch):
    zoo = write(tmp_path / "zoo", rows)
    values = zoo.rows()[:]
    hvae = HVAE(SPACE, latent_dim=3, hidden_dims=(4,)).fit(zoo.rows())
    expected = hvae.encode(zoo.whole())
    whole = Standardizer(P).fit(values)
    monkeypatch.setattr(large, "LARGE", 10)
    monkeypatch.setattr(large, "BATCH", 2 * P)
    streamed = Standardizer(P).fit(zoo.rows())
    assert_close(streamed.mean, whole.mean)
    assert_close(streamed.std, whole.std)
    for found, wanted in zip(encode_zoo(zoo, hvae), (expected.mean, expected.stddev), strict=True):
        assert_close(found, wanted)
    again = HVAE(SPACE, latent_dim=3, hidden_dims=(4,)).fit(zoo.rows())
    assert_close(again(again.encode(values).mean), hvae(hvae.encode(values).mean), atol=1e-4, rtol=1e-4)


def test_one_scale_for_each_layer(rows):
    values = torch.stack([row[0] for row in rows]) * torch.tensor([100.0] * 6 + [0.01] * 2)
    layers = [math.prod(shape) for _, shape in SPACE.shapes]
    std = Standardizer(P).fit(values, groups=layers).std
    assert len(std[:6].unique()) == len(std[6:].unique()) == 1
    assert_close(std[0], values[:, :6].var(dim=0, correction=0).mean().sqrt())
    assert_close(std[7], values[:, 6:].var(dim=0, correction=0).mean().sqrt())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version 1"),
        ({"dtype": "int8"}, "float32 or float16"),
        ({"shards": [{"file": "../x", "rows": 1, "bytes": 1, "sha256": ""}]}, "damaged"),
        ({"shards": [7]}, "damaged"),
        ({"space": [["a", [7]]]}, "does not hold"),
        ({"tasks": 2}, "other tasks"),
        ({"tasks": 5}, "no weights"),
    ],
)
def test_damaged_indices(tmp_path, rows, change, reason):
    write(tmp_path / "zoo", rows)
    record = json.loads((tmp_path / "zoo/zoo.json").read_text())
    write_json(tmp_path / "zoo/zoo.json", record | change)
    with pytest.raises(InputError, match=reason):
        Zoo.load(tmp_path / "zoo")


def test_wrong_use(tmp_path, rows):
    with pytest.raises(InputError, match="no zoo of weights"):
        Zoo.load(tmp_path)
    with pytest.raises(InputError, match="float32 or float16"):
        ZooWriter(tmp_path, SPACE, "bfloat16")
    writer = ZooWriter(tmp_path, SPACE)
    with pytest.raises(InputError, match="at least one"):
        writer.finish(tmp_path)
    with pytest.raises(InputError, match="expected weights of shape"):
        writer.append(torch.zeros(1, 3), [0], [0])
    with pytest.raises(InputError, match="weights of task 4 hold NaN"):
        writer.append(torch.full((2, P), torch.nan), [4, 5], [0, 0])
    with pytest.raises(InputError, match="GB are free"):
        writer.check_room(10**13)
    zoo = write(tmp_path / "zoo", rows)
    path = tmp_path / "zoo/weights-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="checksum"):
        zoo.verify()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="not of the size"):
        Zoo.load(tmp_path / "zoo")


def test_a_zoo_in_one_call(tmp_path):
    weights = torch.randn(2, 3, P)
    save_zoo(tmp_path / "zoo", SPACE, weights)
    assert (
        torch.equal(Zoo.load(tmp_path / "zoo").whole(), weights) and Zoo.load(tmp_path / "zoo").tasks() == []
    )
    with pytest.raises(InputError, match="exists already"):
        save_zoo(tmp_path / "zoo", SPACE, weights)
