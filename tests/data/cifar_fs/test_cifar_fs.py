"""CIFAR-FS: the published split of the classes, from the forms in which CIFAR-100 is passed around."""

import io
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from weightgen import InputError
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.cifar_fs import TEST, VALIDATION, prepare_cifar_fs
from weightgen.data.photos.cifar import Photo
from weightgen.data.photos.knowledge import CLASSES


def photo(name, value):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (value, 10, 200)).save(file, "PNG")
    return Photo(f"{name}-{value}", name, "train", file.getvalue())


def test_64_16_and_20_classes(tmp_path):
    prepare_cifar_fs([photo(name, value) for value in (3, 9) for name in CLASSES], tmp_path / "out")
    arrays = FewShotArrays(tmp_path / "out")
    assert {name: len(members) for name, members in arrays.splits.items()} == {
        "train": 64,
        "validation": 16,
        "test": 20,
    }
    assert len(arrays.classes("train", "validation", "test")) == 100  # none is in two
    for split, names in (("test", TEST), ("validation", VALIDATION)):
        assert {arrays.names[k] for k in arrays.classes(split)} == set(names)
    assert arrays.protocol == "cifar_fs" and arrays.images.shape == (200, 32, 32, 3)
    assert arrays.images[:2, 0, 0].tolist() == [[3, 10, 200], [9, 10, 200]]


def test_a_class_is_missing(tmp_path):
    with pytest.raises(InputError, match="100 classes of CIFAR-100, got 99"):
        prepare_cifar_fs([photo(name, 1) for name in CLASSES[1:]], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_on_the_real_photos(root, shared, tmp_path, monkeypatch):
    words = ["prepare.py", "--parquet", str(shared / "data/cifar100"), "--output-dir", str(tmp_path / "a")]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(root / "data/cifar_fs/prepare.py"), run_name="__main__")
    arrays = FewShotArrays(tmp_path / "a")
    assert np.all((arrays.counts > 290) & (arrays.counts <= 300))
