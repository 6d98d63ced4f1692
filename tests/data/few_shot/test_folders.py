"""Folders and array files of images become the one format, or one line says why not."""

import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from weightgen import InputError
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.folders import prepare_from_folders, prepare_from_npz


def folders(tmp_path):
    for split, names in (("train", "ab"), ("test", "c")):
        for name in names:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (10, 6), (ord(name), 0, 10 * i)).save(folder / f"{i}.png")
            (folder / "notes.txt").write_text("no image")
    return {split: str(tmp_path / split) for split in ("train", "test")}


def test_folders(tmp_path):
    prepare_from_folders(folders(tmp_path), tmp_path / "out", size=8)
    arrays = FewShotArrays(tmp_path / "out")
    assert arrays.names == ["a", "b", "c"] and arrays.splits == {"train": [0, 1], "test": [2]}
    assert arrays.images.shape == (9, 8, 8, 3) and arrays.counts.tolist() == [3, 3, 3]
    assert arrays.images[:, 0, 0, 0].tolist() == [97] * 3 + [98] * 3 + [99] * 3
    prepare_from_folders(folders(tmp_path / "more"), tmp_path / "grey", size=8, grey=True)
    assert FewShotArrays(tmp_path / "grey").images.shape == (9, 8, 8, 1)


def test_npz_as_a_command(root, tmp_path, monkeypatch):
    images = np.arange(4 * 25, dtype=np.uint8).reshape(4, 5, 5)
    np.savez(tmp_path / "a.npz", images=images, labels=[7, 3, 7, 3])
    np.savez(tmp_path / "b.npz", images=images, labels=["x", "x", "y", "y"])
    words = [f"train={tmp_path / 'a.npz'}", f"test={tmp_path / 'b.npz'}"]
    monkeypatch.syspath_prepend(root / "data" / "few_shot_images")
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--npz", *words, "--output-dir", str(tmp_path / "out")])
    runpy.run_path(str(root / "data" / "few_shot_images" / "prepare.py"), run_name="__main__")
    arrays = FewShotArrays(tmp_path / "out")
    assert arrays.names == ["train/3", "train/7", "test/x", "test/y"]
    assert arrays.splits == {"train": [0, 1], "test": [2, 3]}
    np.testing.assert_array_equal(arrays.images[:2, :, :, 0], images[[1, 3]])


def test_wrong_use(tmp_path):
    out = tmp_path / "out"
    splits = folders(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        prepare_from_folders({"train": tmp_path / "nowhere"}, out)
    with pytest.raises(InputError, match="one for each class"):
        prepare_from_folders({"train": tmp_path / "train" / "a"}, out)
    with pytest.raises(InputError, match="'a' is in two splits"):
        prepare_from_folders(splits | {"more": splits["train"]}, out)
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"half")
    with pytest.raises(InputError, match="is not an image that can be read"):
        prepare_from_folders(splits, out)
    (tmp_path / "train" / "d").mkdir()
    (tmp_path / "train" / "a" / "0.png").unlink()
    with pytest.raises(InputError, match="'d' has no image"):
        prepare_from_folders(splits, out)
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), np.uint8), labels=[0, 1])
    with pytest.raises(InputError, match="2 labels"):
        prepare_from_npz({"train": tmp_path / "a.npz"}, out)
    np.savez(tmp_path / "b.npz", pictures=np.zeros(1))
    with pytest.raises(InputError, match="no array 'images'"):
        prepare_from_npz({"train": tmp_path / "b.npz"}, out)
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 4, 4), np.uint8), labels=[0, 1])
    np.savez(tmp_path / "d.npz", images=np.zeros((2, 5, 5), np.uint8), labels=[0, 1])
    with pytest.raises(InputError, match=r"\(5, 5\), and those before \(4, 4\)"):
        prepare_from_npz({"train": tmp_path / "c.npz", "test": tmp_path / "d.npz"}, out)
    assert not out.exists()
