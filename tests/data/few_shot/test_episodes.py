"""Episodes: a pure function of (seed, step), disjoint unless asked otherwise, and array folders that are never half right."""

import copy
import json
from itertools import islice

import numpy as np
import pytest
import torch

from weightgen import InputError
from weightgen.data.few_shot.arrays import FewShotArrays, write_few_shot_arrays
from weightgen.data.few_shot.episodes import Episodes
from weightgen.tasks import PADDING_LABEL, UNLABELED

SIDE = 4


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """12 classes of 20 images (the last two of 7), in which each image is one of a kind: pixel 0 is the class, pixel 1 its number."""
    folder = tmp_path_factory.mktemp("arrays") / "a"
    labels = np.concatenate([np.repeat(np.arange(10), 20), np.repeat([10, 11], 7)])
    rng = np.random.default_rng(0)
    images = np.zeros((len(labels), SIDE, SIDE), np.uint8)
    images[:, 0, 0] = labels + 1
    images[:, 0, 1] = np.arange(len(labels)) % 200 + 20
    order = rng.permutation(len(labels))  # the writer sorts
    splits = {"train": list(range(10)), "test": [10, 11]}
    write_few_shot_arrays(
        folder, images[order], labels[order], [f"c{i}" for i in range(12)], splits, {"from": "a test"}
    )
    return FewShotArrays(folder)


def make(arrays, **changes):
    options = {
        "ways": 5, "shots": 2, "queries": 3, "batch_size": 4, "mean": 0.0, "std": 1.0,
    }  # fmt: skip
    return Episodes(arrays, arrays.classes("train"), **(options | changes))


def classes_of(inputs):
    """The class of each image, wherever its corner was turned to."""
    corners = torch.stack([inputs[..., 0, i, j] for i in (0, -1) for j in (0, -1)], -1)
    return corners.amax(-1).long() - 1


def test_shapes_and_labels(arrays):
    batch = make(arrays, unlabeled=1).batch(0)
    assert batch.support.inputs.shape == (4, 15, 1, SIDE, SIDE)
    assert batch.query.inputs.shape == (4, 15, 1, SIDE, SIDE)
    slots = torch.arange(5).repeat_interleave(3)
    assert (batch.query.labels == slots).all()
    expected = slots.clone()
    expected[2::3] = UNLABELED
    assert (batch.support.labels == expected).all()


def test_slots_hold_one_class_each_and_at_random(arrays):
    batch = make(arrays).batch(0)
    of_support = classes_of(batch.support.inputs).reshape(4, 5, 2)
    of_query = classes_of(batch.query.inputs).reshape(4, 5, 3)
    assert (of_support == of_support[:, :, :1]).all()
    assert (of_query == of_support[:, :, :1]).all()
    assert all(len(set(row)) == 5 for row in of_support[:, :, 0].tolist())
    seen = [tuple(make(arrays).batch(i).support.inputs[0, 0, 0, 0, :1].tolist()) for i in range(40)]
    assert len(set(seen)) > 6  # slot 0 takes nearly every class in turn


def test_a_step_is_a_pure_function_of_seed_and_step(arrays):
    one, two = make(arrays, rotate=True), make(arrays, rotate=True)
    one.batch(0)
    a, b = one.batch(7), two.batch(7)
    torch.manual_seed(5)
    assert torch.equal(a.support.inputs, b.support.inputs) and torch.equal(a.query.inputs, b.query.inputs)
    assert not torch.equal(a.query.inputs, one.batch(8).query.inputs)
    assert not torch.equal(a.query.inputs, make(arrays, rotate=True, seed=1).batch(7).query.inputs)


def rows_shared(batch):
    """Share of query images that are also in the support set of their task."""
    support, query = batch.support.inputs.flatten(2), batch.query.inputs.flatten(2)
    same = (query[:, :, None] == support[:, None]).all(-1).any(-1)
    return same.double().mean().item()


def test_support_and_query_are_disjoint(arrays):
    assert all(rows_shared(make(arrays, shots=10, queries=10).batch(i)) == 0 for i in range(5))


def test_published_overlap_is_shots_over_images(arrays):
    episodes = make(arrays, shots=5, queries=5, overlap=True, batch_size=20)
    share = np.mean([rows_shared(episodes.batch(i)) for i in range(10)])
    assert share == pytest.approx(5 / 20, abs=0.02)


def test_rotation_is_one_for_each_class_slot(arrays):
    batch = make(arrays, rotate=True, shots=4, batch_size=30).batch(0)
    corner = torch.stack(
        [batch.support.inputs[..., 0, i, j] for i, j in ((0, 0), (-1, 0), (-1, -1), (0, -1))], -1
    )
    turns = corner.argmax(-1).reshape(30, 5, 4)
    query = torch.stack(
        [batch.query.inputs[..., 0, i, j] for i, j in ((0, 0), (-1, 0), (-1, -1), (0, -1))], -1
    ).argmax(-1)
    assert (turns == turns[:, :, :1]).all()
    assert (query.reshape(30, 5, 3) == turns[:, :, :1]).all()
    assert set(turns[:, :, 0].flatten().tolist()) == {0, 1, 2, 3}
    assert (turns[:, :, 0] != turns[:, :1, 0]).any()
    alike = make(arrays, rotate=True, alike=True, batch_size=30).batch(0).support.inputs
    found = torch.stack([alike[..., 0, i, j] > 0 for i in (0, -1) for j in (0, -1)], -1)
    assert (found == found[:, :1]).all() and len(found[:, 0].unique(dim=0)) == 4


def test_mirrored_classes_are_mirror_images(arrays):
    plain, mirrored = make(arrays, batch_size=8), make(arrays, batch_size=8, mirror=True)
    a, b = plain.batch(3).support.inputs, mirrored.batch(3).support.inputs
    flipped = (a.flip(-1) == b).flatten(2).all(-1)
    same = (a == b).flatten(2).all(-1)
    assert (flipped | same).all() and flipped.any() and same.any()


def test_unbalanced_sets_are_padded(arrays):
    batch = make(arrays, shots=4, min_shots=1, unlabeled=1, min_queries=1, batch_size=30).batch(0)
    labels = batch.support.labels.reshape(30, 5, 5)
    shots = (labels >= 0).sum(2)
    assert set(shots.flatten().tolist()) == {1, 2, 3, 4}
    assert (labels[:, :, 4] == UNLABELED).all()
    assert ((labels[:, :, :4] >= 0) | (labels[:, :, :4] == PADDING_LABEL)).all()
    assert (batch.query.labels == PADDING_LABEL).any()
    assert (batch.query.labels.reshape(30, 5, 3)[:, :, 0] >= 0).all()


def test_pixels_are_scaled(arrays):
    raw, scaled = make(arrays).batch(2), make(arrays, mean=128.0, std=64.0).batch(2)
    torch.testing.assert_close(scaled.query.inputs, (raw.query.inputs - 128) / 64)


def test_classes_of_few_groups_come_first(arrays):
    grouped = copy.copy(arrays)
    grouped.names = [
        f"{'abcd'[i // 3]}/{i}" for i in range(12)
    ]  # groups of 3, 3, 3 and 1 among the first ten
    for step in range(5):
        seen = classes_of(make(grouped, ways=3, groups=1, batch_size=20).batch(step).query.inputs) // 3
        rows = [set(row) for row in seen.tolist()]
        assert all(len(row) == 1 or 3 in row for row in rows)  # the group of one is filled up
        assert {0, 1, 2} <= set().union(*rows)
    assert make(grouped, ways=5, groups=2).batch(0).query.inputs.shape[1] == 15
    with pytest.raises(InputError, match="groups from 1 up"):
        make(grouped, groups=0)


def test_groups_that_the_names_do_not_tell_are_refused(arrays):
    assert not any("/" in name for name in arrays.names)
    with pytest.raises(InputError, match="classes of more than one"):
        make(arrays, groups=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ways": 11}, "11 ways need as many classes, and the split has 10"),
        ({"shots": 15, "queries": 6}, "21 images per class are needed and a class has only 20"),
        ({"shots": 0}, "from 1 up"),
        ({"seed": -1}, "seed from 0 up"),
        ({"min_shots": 3}, "from 1 to 2"),
    ],
)
def test_wrong_use(arrays, changes, message):
    with pytest.raises(InputError, match=message):
        make(arrays, **changes)


def test_overlap_needs_fewer_images(arrays):
    make(arrays, shots=15, queries=15, overlap=True)


def test_small_classes_count(arrays):
    with pytest.raises(InputError, match="only 7"):
        Episodes(arrays, arrays.classes("train", "test"), ways=2, shots=5, queries=3)
    batch = Episodes(arrays, arrays.classes("test"), ways=2, shots=4, queries=3, std=1.0, mean=0.0).batch(0)
    assert set(classes_of(batch.query.inputs).flatten().tolist()) == {10, 11}


def write(folder, **changes):
    arguments = {
        "images": np.zeros((4, 2, 2), np.uint8),
        "labels": [0, 0, 1, 1],
        "names": ["a", "b"],
        "splits": {"train": [0, 1]},
        "source": {},
    }
    write_few_shot_arrays(folder, **(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [0, 0, 1]}, "3 labels"),
        ({"labels": [0, 0, 1, 2]}, "labels run from 0 to 2, but there are 2 classes"),
        ({"labels": [0, 0, 0, 0]}, "'b' has no image"),
        ({"splits": {"train": [2]}}, "outside 0 to 1"),
        ({"splits": {"train": [1, 1]}}, "'train' names a class twice"),
        ({"images": np.zeros((4, 2, 2))}, "float64"),
    ],
)
def test_arrays_that_do_not_fit_are_not_written(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        write(tmp_path / "a", **changes)
    assert not list(tmp_path.iterdir())


def test_damaged_folders(tmp_path):
    write(tmp_path / "a")
    index = tmp_path / "a" / "index.json"
    with pytest.raises(InputError, match="no split 'tset'"):
        FewShotArrays(tmp_path / "a").classes("tset")
    whole = json.loads(index.read_text())
    for change, message in (
        ({"names": ["a"]}, "1 names of 2 classes"),
        ({"splits": {"train": [9]}}, "outside 0 to 1"),
    ):
        index.write_text(json.dumps(whole | change))
        with pytest.raises(InputError, match=message):
            FewShotArrays(tmp_path / "a")
    index.write_text(json.dumps({key: value for key, value in whole.items() if key != "names"}))
    with pytest.raises(InputError, match="no 'names': prepare it again"):
        FewShotArrays(tmp_path / "a")
    index.write_text(json.dumps(whole | {"splits": {"a": [0, 1], "b": [1]}}))
    with pytest.raises(InputError, match="the splits a, b share classes"):
        FewShotArrays(tmp_path / "a").classes("a", "b")
    index.write_text(json.dumps(whole))
    changed = json.loads(index.read_text()) | {"counts": [2, 3]}
    index.write_text(json.dumps(changed))
    with pytest.raises(InputError, match="does not hold the 5 images"):
        FewShotArrays(tmp_path / "a")
    (tmp_path / "a" / "images.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(InputError, match="prepare it again"):
        FewShotArrays(tmp_path / "a")
    index.write_text("{}")
    with pytest.raises(InputError, match="prepare.py"):
        FewShotArrays(tmp_path / "a")
    with pytest.raises(InputError, match="cannot read"):
        FewShotArrays(tmp_path / "nowhere")


def test_pickled_arrays_are_refused(tmp_path):
    write(tmp_path / "a")
    np.save(tmp_path / "a" / "images.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot read"):
        FewShotArrays(tmp_path / "a")


@pytest.mark.parametrize("overlap", [False, True])
def test_query_sets_drawn_anew_for_the_same_support_set(arrays, overlap):
    episodes = make(arrays, shots=5, unlabeled=1, overlap=overlap, rotate=True)
    first, *others = islice(episodes.batches(3), 12)
    torch.testing.assert_close(first.query.inputs, episodes.batch(3).query.inputs)
    number = {"drawn": set(), "shared": 0}
    for batch in [first, *others]:
        torch.testing.assert_close(batch.support.inputs, first.support.inputs)
        assert (batch.query.labels == first.query.labels).all()
        for task in range(4):
            support = {tuple(image.flatten().tolist()) for image in batch.support.inputs[task]}
            query = {tuple(image.flatten().tolist()) for image in batch.query.inputs[task]}
            assert len(query) == 15  # without replacement
            number["shared"] += len(query & support)
            number["drawn"] |= query
    assert len(number["drawn"]) > 3 * 4 * 15  # not the same queries again
    assert (number["shared"] > 0) is overlap  # 6 of 20 images of a class are in the support set
    if overlap:
        assert abs(number["shared"] / (12 * 4 * 15) - 6 / 20) < 0.06
