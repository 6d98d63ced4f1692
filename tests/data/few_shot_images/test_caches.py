"""miniImageNet and tieredImageNet in their published layouts become the one format, or one line says why not."""

import os
import pickle
import runpy
import sys

import numpy as np
import pytest
from caches import prepare_from_mini_imagenet, prepare_from_tiered_imagenet

from tests.data.few_shot_images.made_up_caches import (
    NAMES,
    mini_imagenet,
    pixels,
    png,
    python2,
    python3,
    tiered_imagenet,
)
from weightgen import InputError
from weightgen.data.few_shot import arrays as few_shot_arrays
from weightgen.data.few_shot.arrays import FewShotArrays

WRITERS = [python2, python3(2), python3(3), python3(5)]
SPLITS = {"train": [0, 1], "validation": [2, 3], "test": [4, 5]}


def changed(folder, name, **values):
    """Overwrite entries of a dictionary in a cache; None removes one."""
    table = pickle.loads((folder / name).read_bytes(), encoding="latin1") | values
    (folder / name).write_bytes(python3(4)({key: value for key, value in table.items() if value is not None}))


@pytest.mark.parametrize("write", WRITERS)
def test_mini_imagenet(tmp_path, write):
    expected = mini_imagenet(tmp_path / "mini", write)
    prepare_from_mini_imagenet(tmp_path / "mini", tmp_path / "out")
    arrays = FewShotArrays(tmp_path / "out")
    assert arrays.names == list(expected) and arrays.splits == SPLITS and arrays.counts.tolist() == [3] * 6
    np.testing.assert_array_equal(arrays.images, np.concatenate(list(expected.values())))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("form", ["png", "npz"])
@pytest.mark.parametrize("key", ["label_specific", "labels"])
def test_tiered_imagenet(tmp_path, write, form, key):
    """Both forms give the same images: PNG files are RGB, and the .npz holds BGR."""
    expected = tiered_imagenet(tmp_path / "tiered", write, form, key)
    prepare_from_tiered_imagenet(tmp_path / "tiered", tmp_path / "out")
    arrays = FewShotArrays(tmp_path / "out")
    numbers = ["0", "1", "7", "8", "14", "15"]
    assert arrays.names == (["crane"] * 6 if key == "label_specific" else numbers)
    assert arrays.splits == SPLITS and arrays.counts.tolist() == [3, 2] * 3
    np.testing.assert_array_equal(arrays.images, np.concatenate(list(expected.values())))


def test_rows_written_in_pieces(tmp_path, monkeypatch):
    """Pieces that hold rows of two splits, and of two images only."""
    expected = tiered_imagenet(tmp_path / "tiered", python3(4))
    monkeypatch.setattr(few_shot_arrays, "PIECE", 2 * 6 * 6 * 3)
    prepare_from_tiered_imagenet(tmp_path / "tiered", tmp_path / "out")
    np.testing.assert_array_equal(
        FewShotArrays(tmp_path / "out").images, np.concatenate(list(expected.values()))
    )


@pytest.mark.parametrize(
    ("option", "make"), [("--mini-imagenet", mini_imagenet), ("--tiered-imagenet", tiered_imagenet)]
)
def test_as_a_command(root, tmp_path, monkeypatch, option, make):
    make(tmp_path / "caches", python2)
    words = ["prepare.py", option, str(tmp_path / "caches"), "--output-dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(root / "data" / "few_shot_images" / "prepare.py"), run_name="__main__")
    assert FewShotArrays(tmp_path / "out").splits == SPLITS


def test_a_malicious_cache(root, tmp_path, monkeypatch, capsys):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    mini_imagenet(tmp_path / "mini", python3(4))
    changed(tmp_path / "mini", "mini-imagenet-cache-val.pkl", more=Evil())
    words = ["prepare.py", "--mini-imagenet", str(tmp_path / "mini"), "--output-dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(root / "data" / "few_shot_images" / "prepare.py"), run_name="__main__")
    error = capsys.readouterr().err
    assert exit.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert "mini-imagenet-cache-val.pkl names" in error and "system" in error
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"image_data": pixels(7, 0)}, "holds 7 images, but the 2 classes .* have 6 rows of which 6 differ"),
        ({"image_data": pixels(5, 0)}, "holds 5 images, but the 2 classes"),
        ({"class_dict": {"a": [0, 1, 2], "b": [3, 4, 4]}}, "6 rows of which 5 differ"),
        ({"class_dict": {"a": [0, 1, 2], "b": [3, 4, 6]}}, "holds 6 images"),
        ({"class_dict": {"a": [0, 1, 2, 3, 4, 5], "b": []}}, "'b' has no image"),
        ({"class_dict": {"a": [0.0] * 6}}, "expected a list of whole numbers"),
        ({"class_dict": {"n001": [0, 1, 2, 3, 4, 5]}}, "class 'n001' is in two caches"),
        ({"class_dict": [0]}, "expected a class_dict from names to rows"),
        ({"class_dict": None}, "has no 'class_dict', only 'image_data'"),
        ({"image_data": [1]}, "expected uint8 images .* got list"),
        ({"image_data": pixels(6, 0)[..., 0]}, r"got uint8 \(6, 6, 6\)"),
        ({"image_data": pixels(6, 0, size=8)}, "images of one size"),
        ({"image_data": pixels(0, 0), "class_dict": {}}, "split 'test' of miniImageNet has no images"),
    ],
)
def test_a_mini_cache_that_does_not_match(tmp_path, values, reason):
    mini_imagenet(tmp_path / "mini", python3(4))
    changed(tmp_path / "mini", "mini-imagenet-cache-test.pkl", **values)
    with pytest.raises(InputError, match=reason):
        prepare_from_mini_imagenet(tmp_path / "mini", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"label_specific_str": ["crane"]}, "names 1 classes, but has labels of 2, from 0 to 1"),
        ({"label_specific_str": ["a", "b", "c"]}, "names 3 classes, but has labels of 2"),
        ({"label_specific_str": None}, "names no classes"),
        ({"label_specific": np.array([1, 1, 1, 2, 2])}, "names 2 classes, but has labels of 2, from 1 to 2"),
        ({"label_specific": np.array([0, 1, 0, 1])}, "'validation' has 5 images and 4 labels"),
        ({"label_specific": np.eye(2)}, "expected a list of whole numbers"),
        ({"label_specific": None}, "has no 'labels', only 'label_specific_str'"),
    ],
)
def test_tiered_labels_that_do_not_match(tmp_path, values, reason):
    tiered_imagenet(tmp_path / "tiered", python3(4))
    changed(tmp_path / "tiered", "val_labels.pkl", **values)
    with pytest.raises(InputError, match=reason):
        prepare_from_tiered_imagenet(tmp_path / "tiered", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([png(image) for image in pixels(4, 0)], "'test' has 4 images and 5 labels"),
        ([png(image) for image in pixels(5, 0, size=7)], "images of one size"),
        ([png(image)[:40] for image in pixels(5, 0)], "unreadable image"),
        ([np.zeros(9, np.uint8)] * 5, "unreadable image"),
        ([10**12] * 5, "holds a int: expected PNG files"),
        ({"images": 1}, "holds a dict: expected a list of PNG files"),
    ],
)
def test_png_files_that_do_not_match(tmp_path, images, reason):
    tiered_imagenet(tmp_path / "tiered", python3(4))
    (tmp_path / "tiered" / "test_images_png.pkl").write_bytes(python3(4)(images))
    with pytest.raises(InputError, match=reason):
        prepare_from_tiered_imagenet(tmp_path / "tiered", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("make", "prepare"), [
    (mini_imagenet, prepare_from_mini_imagenet), (tiered_imagenet, prepare_from_tiered_imagenet),
])  # fmt: skip
def test_missing_truncated_or_other_files(tmp_path, make, prepare):
    make(tmp_path / "caches", python3(4))
    for path in sorted((tmp_path / "caches").iterdir()):
        content = path.read_bytes()
        for wrong, reason in (
            (content[:-30], "truncated, damaged or no pickle"),
            (b"\x93NUMPY", "truncated, damaged or no pickle"),
            (python3(4)("text"), "holds a str"),
        ):
            path.write_bytes(wrong)
            with pytest.raises(InputError, match=f"{path.name} .*{reason}"):
                prepare(tmp_path / "caches", tmp_path / "out")
        path.unlink()
        with pytest.raises(InputError, match=f"no file .*expected .*{NAMES[0]}"):
            prepare(tmp_path / "caches", tmp_path / "out")
        path.write_bytes(content)
    np.savez(tmp_path / "caches" / "val_images.npz", pictures=np.zeros(1))
    (tmp_path / "caches" / "val_images_png.pkl").unlink(missing_ok=True)
    if make is tiered_imagenet:
        with pytest.raises(InputError, match="no array 'images', only pictures"):
            prepare(tmp_path / "caches", tmp_path / "out")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("make", [mini_imagenet, tiered_imagenet])
def test_bytes_as_keys_and_columns_of_bytes(make, protocol, tmp_path):
    """What comes of a Python 2 file that Python 3 read with encoding="bytes", and of OpenCV, which encodes PNG as (M, 1)."""

    def as_bytes(value):
        if isinstance(value, dict):
            return {key.encode(): as_bytes(each) for key, each in value.items()}
        if isinstance(value, list):
            return [as_bytes(each) for each in value]
        if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.uint8:
            return value[:, None]
        return value.encode() if isinstance(value, str) else value

    expected = make(tmp_path / "caches", lambda value: pickle.dumps(as_bytes(value), protocol=protocol))
    prepare = prepare_from_mini_imagenet if make is mini_imagenet else prepare_from_tiered_imagenet
    prepare(tmp_path / "caches", tmp_path / "out")
    arrays = FewShotArrays(tmp_path / "out")
    np.testing.assert_array_equal(arrays.images, np.concatenate(list(expected.values())))
    assert arrays.names == (list(expected) if make is mini_imagenet else ["crane"] * 6)
