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


def drawing(mode):
    """A black bar on white, in one of the ways in which pictures are stored."""
    ink = np.full((16, 16), 255, np.uint8)
    ink[4:8] = 0
    if mode == "I;16":
        return Image.fromarray(ink.astype(np.uint16) * 257)
    image = Image.new("L", (16, 16), 0)
    image.putalpha(Image.fromarray(255 - ink))
    return Image.fromarray(ink) if mode == "L" else image.convert("RGBA") if mode == "RGBA" else image


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "I;16", "palette"])
def test_drawings_look_alike_however_they_are_stored(mode, grey, tmp_path):
    (tmp_path / "train/a").mkdir(parents=True)
    if mode == "palette":
        image = Image.fromarray((np.asarray(drawing("L")) == 0).astype(np.uint8), "P")
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.save(tmp_path / "train/a/0.png", transparency=0)
    else:
        drawing(mode).save(tmp_path / "train/a/0.png")
    prepare_from_folders({"train": tmp_path / "train"}, tmp_path / "out", size=16, grey=grey)
    found = FewShotArrays(tmp_path / "out").images[0, ..., 0]
    np.testing.assert_array_equal(found, np.asarray(drawing("L")))


def test_white_ink_needs_another_background(tmp_path):
    (tmp_path / "train/a").mkdir(parents=True)
    clear = Image.new("LA", (4, 4), (255, 0))
    clear.putpixel((1, 1), (255, 255))
    clear.save(tmp_path / "train/a/0.png")
    prepare_from_folders({"train": tmp_path / "train"}, tmp_path / "out", size=4, background="black")
    image = FewShotArrays(tmp_path / "out").images[0, ..., 0]
    assert image[1, 1] == 255 and image.sum() == 255


def test_stray_files_and_folders_are_skipped_and_counted(tmp_path):
    splits = folders(tmp_path)
    for name in (
        "train/a/._0.png",
        "train/a/Thumbs.db",
        "train/a/.ipynb_checkpoints/0.png",
        "train/.ipynb_checkpoints/0.png",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"junk")
    Image.new("RGB", (8, 8)).save(tmp_path / "train/a/more.webp")
    (tmp_path / "train/b/images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "train/b/images/deep.JPEG")
    skipped = prepare_from_folders(splits, tmp_path / "out", size=8)
    arrays = FewShotArrays(tmp_path / "out")
    assert arrays.names == ["a", "b", "c"] and arrays.counts.tolist() == [4, 4, 3]
    assert skipped == 3 + 3  # notes.txt of each class, and three of what is stray in a class


def test_size_zero(tmp_path):
    with pytest.raises(InputError, match="size must be at least 1, got 0"):
        prepare_from_folders(folders(tmp_path), tmp_path / "out", size=0)
