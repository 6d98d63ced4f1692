import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from weightgen import InputError
from weightgen.data.features.store import FeatureStore, find_features
from weightgen.data.features.writer import FeaturePlan, FeatureWriter

PLAN = FeaturePlan(
    encoder="an encoder",
    images=[f"image {i:03d}" for i in range(23)],
    questions=["what?", "who?"],
    answers=["it is red", "it is blue", "it is green"],
    dtype="single",
    batch_size=4,
    shard_size=5,
)
DIMS = {"images": 6, "questions": 3, "answers": 6}


def embed(kind, names):
    """An embedding that is a function of its name alone."""
    rows = [torch.randn(DIMS[kind], generator=torch.Generator().manual_seed(sum(map(ord, x)))) for x in names]
    return torch.stack(rows) if rows else torch.empty(0, DIMS[kind])


def write(writer, shards=None, failed=()):
    for kind, number in writer.unfinished() if shards is None else shards:
        names = writer.plan.shards(kind)[number]
        broken = {name: "broken" for name in names if name in failed}
        writer.write(kind, number, embed(kind, [name for name in names if name not in failed]), broken)


def make(folder, plan=PLAN, failed=()):
    writer = FeatureWriter(folder, plan)
    assert writer.begin()
    write(writer, failed=failed)
    writer.finish({"fewest": {"examples": 3, "answers": 2}})
    return FeatureStore(folder)


@pytest.mark.parametrize("dtype", ["single", "half"])
def test_what_was_written_is_read(tmp_path, dtype):
    store = make(tmp_path / "x", replace(PLAN, dtype=dtype))
    assert store.index["fewest"]["examples"] == 3 and store.failed == {}
    for kind, dim in DIMS.items():
        names = getattr(PLAN, kind)
        assert store.names(kind) == names and store.dim(kind) == dim
        rows = store.rows(kind, names)
        assert torch.equal(rows, torch.arange(len(names)))
        expected = embed(kind, names).to({"single": torch.float32, "half": torch.float16}[dtype])
        assert torch.equal(store.embeds(kind, rows), expected)


def test_rows_in_any_order_and_more_than_once(tmp_path):
    store = make(tmp_path / "x")
    names = ["image 022", "image 004", "nothing", "image 005", "image 004"]
    rows = store.rows("images", names)
    assert rows.tolist() == [22, 4, -1, 5, 4]
    found = store.embeds("images", rows[rows >= 0])
    assert torch.equal(found, embed("images", [name for name in names if name != "nothing"]))
    assert store.embeds("images", rows[:0]).shape == (0, 6) and store.rows("images", []).shape == (0,)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_store_is_mapped_not_read(tmp_path):
    store = make(tmp_path / "x")
    assert str(tmp_path / "x" / "images-00004.safetensors") in Path("/proc/self/maps").read_text()
    del store


def test_names_that_failed_have_no_row(tmp_path):
    failed = ["image 000", *PLAN.images[5:10]]  # one of the first shard, all of the second
    store = make(tmp_path / "x", failed=failed)
    assert store.failed == {name: "broken" for name in failed}
    assert store.rows("images", PLAN.images).tolist() == [-1, 0, 1, 2, 3] + [-1] * 5 + list(range(4, 17))
    kept = [name for name in PLAN.images if name not in failed]
    assert torch.equal(store.embeds("images", store.rows("images", kept)), embed("images", kept))


def test_a_run_goes_on_where_it_was_killed(tmp_path):
    first = FeatureWriter(tmp_path / "x", PLAN)
    first.begin()
    done = [("answers", 0), ("images", 0), ("images", 3)]
    write(first, done)
    (first.partial / ".images-00001.safetensors.abc.partial").write_bytes(b"half a shard")

    second = FeatureWriter(tmp_path / "x", PLAN)
    assert second.begin()
    left = second.unfinished()
    assert set(left).isdisjoint(done) and len(left) == 7 - len(done)
    with pytest.raises(InputError, match="images-00001.safetensors is missing"):
        second.finish({})
    write(second)
    second.finish({})
    names = {path.name for path in (tmp_path / "x").iterdir()}
    shards = {f"images-{i:05d}.safetensors" for i in range(5)}
    assert names == shards | {
        "answers-00000.safetensors",
        "questions-00000.safetensors",
        "index.json",
        "plan.json",
    }
    assert not second.partial.exists()


def test_the_same_bytes_in_whatever_order(tmp_path):
    make(tmp_path / "x")
    writer = FeatureWriter(tmp_path / "y", PLAN)
    writer.begin()
    write(writer, reversed(writer.unfinished()))
    writer.finish({"fewest": {"examples": 3, "answers": 2}})
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes(), path.name


def test_a_damaged_shard_is_made_again(tmp_path):
    writer = FeatureWriter(tmp_path / "x", PLAN)
    writer.begin()
    write(writer)
    path = writer.path("images", 2)
    path.write_bytes(path.read_bytes()[:-3])
    assert writer.unfinished() == [("images", 2)]


def test_an_unfinished_store_is_not_taken_for_a_whole_one(tmp_path):
    writer = FeatureWriter(tmp_path / "features" / "x", PLAN)
    writer.begin()
    write(writer)
    for open_it in (lambda: FeatureStore(tmp_path / "features" / "x"), lambda: find_features(tmp_path, "x")):
        with pytest.raises(InputError, match="is unfinished: run recipes/embed.py again"):
            open_it()
    with pytest.raises(InputError, match="no features yet"):
        find_features(tmp_path)
    writer.finish({})
    assert find_features(tmp_path).names("questions") == PLAN.questions


def test_a_finished_store_is_reused_or_refused(tmp_path):
    make(tmp_path / "x")
    assert not FeatureWriter(tmp_path / "x", PLAN).begin()
    other = replace(PLAN, encoder="another encoder")
    with pytest.raises(
        InputError, match=r"made with other settings \(encoder an encoder\): choose another name"
    ):
        FeatureWriter(tmp_path / "x", other).begin()
    writer = FeatureWriter(tmp_path / "x", other, overwrite=True)
    assert writer.begin()
    assert FeatureStore(tmp_path / "x").plan["encoder"] == "an encoder"  # until the other is whole
    write(writer)
    writer.finish({})
    assert FeatureStore(tmp_path / "x").plan["encoder"] == "another encoder"


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 5}, {"dtype": "half"}, {"images": PLAN.images[1:]}, {"answers": [*PLAN.answers, "new"]}],
)
def test_an_unfinished_store_of_another_plan_is_refused(tmp_path, change):
    FeatureWriter(tmp_path / "x", PLAN).begin()
    with pytest.raises(InputError, match=f"other settings \\({next(iter(change))} .*: remove it"):
        FeatureWriter(tmp_path / "x", replace(PLAN, **change)).begin()


@pytest.mark.parametrize(("dtype", "value"), [("single", float("nan")), ("half", 1e6)])
def test_an_embedding_without_a_value_is_refused(tmp_path, dtype, value):
    writer = FeatureWriter(tmp_path / "x", replace(PLAN, dtype=dtype))
    writer.begin()
    embeds = embed("images", PLAN.images[5:10])
    embeds[1, 2] = value
    with pytest.raises(InputError, match="'image 006' is not finite"):
        writer.write("images", 1, embeds)
    assert ("images", 1) in writer.unfinished()


def test_failures_are_those_of_the_last_run(tmp_path):
    writer = FeatureWriter(tmp_path / "x", PLAN)
    writer.begin()
    writer.fail("images", 0, {"image 003": "missing"})
    writer.fail("images", 2, {"image 011": "broken"})
    assert writer.failures() == {"image 003": "missing", "image 011": "broken"}
    assert writer.begin() and writer.failures() == {}


@pytest.mark.parametrize("change", [{"dtype": "fp8"}, {"batch_size": 0}, {"shard_size": -1}])
def test_a_plan_that_cannot_be(change):
    with pytest.raises(InputError, match=next(iter(change))):
        replace(PLAN, **change)


def test_damaged_stores(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        FeatureStore(tmp_path / "x")
    store = make(tmp_path / "features" / "x")
    make(tmp_path / "features" / "y")
    with pytest.raises(InputError, match="several features: name one of x, y"):
        find_features(tmp_path)
    path = store.folder / "images-00001.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="truncated"):
        find_features(tmp_path, "x")
    path.unlink()
    with pytest.raises(InputError, match="no file"):
        find_features(tmp_path, "x")
    (store.folder / "index.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match="not of format"):
        find_features(tmp_path, "x")
