"""Omniglot from its forms: the same format, the published split, damaged files in one line."""

import io
import runpy
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from weightgen import InputError
from weightgen.data.few_shot.arrays import FewShotArrays
from weightgen.data.few_shot.omniglot import (
    prepare_from_images,
    prepare_from_npz,
    random_split,
    vinyals_split,
)


def drawing(seed):
    """A PNG of 105 × 105, black on white, as the originals are."""
    ink = np.full((105, 105), 255, np.uint8)
    ink[seed : seed + 20, 10:30] = 0
    file = io.BytesIO()
    Image.fromarray(ink).convert("1").save(file, "PNG")
    return file.getvalue()


def official(count=20):
    """Paths and contents of a tiny Omniglot: 2 background and 1 evaluation characters."""
    characters = [
        ("images_background", "Latin", 1),
        ("images_background", "Hebrew", 2),
        ("images_evaluation", "Oriya", 1),
    ]
    for i, (part, alphabet, number) in enumerate(characters):
        for k in range(count):
            yield part, f"{part}/{alphabet}/character{number:02d}/{i:04d}_{k + 1:02d}.png", drawing(k + i)


def as_zips(folder, count=20):
    for part in ("images_background", "images_evaluation"):
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for where, path, content in official(count):
                if where == part:
                    archive.writestr(path, content)
            archive.writestr(f"__MACOSX/{part}/Latin/character01/._0000_01.png", b"junk")
    return folder


def test_zips_and_folders_give_the_same(tmp_path):
    as_zips(tmp_path)
    prepare_from_images(tmp_path, tmp_path / "from_zips")
    for _, path, content in official():
        target = tmp_path / "tv" / "omniglot-py" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    prepare_from_images(tmp_path / "tv", tmp_path / "from_folder")
    a, b = FewShotArrays(tmp_path / "from_zips"), FewShotArrays(tmp_path / "from_folder")
    assert a.names == ["Hebrew/character02", "Latin/character01", "Oriya/character01"]
    assert a.splits == {"train": [1], "validation": [0], "test": [2]} == b.splits
    np.testing.assert_array_equal(a.images, b.images)
    assert a.images.shape == (60, 28, 28, 1)
    assert a.images[0].max() == 255 and a.images[0, -1, -1] == 0  # ink is bright


def test_split_is_the_published_one(shared):
    file = np.load(shared / "data" / "omniglot28.npz", allow_pickle=False)
    alphabets = file["alphabet_names"][file["class_alphabet_id"]]
    keys = [(str(a), int(n)) for a, n in zip(alphabets, file["class_character_no"], strict=True)]
    background = {key for key, known in zip(keys, file["class_is_background"], strict=True) if known}
    split = vinyals_split(keys, background)
    for i, (name, size) in enumerate([("train", 1028), ("validation", 172), ("test", 423)]):
        assert len(split[name]) == size
        assert split[name] == np.flatnonzero(file["class_split_vinyals"] == i).tolist()


def test_npz_as_a_command(root, shared, tmp_path, monkeypatch):
    npz = shared / "data" / "omniglot28.npz"
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--npz", str(npz), "--output-dir", str(tmp_path / "a")])
    runpy.run_path(str(root / "data" / "omniglot" / "prepare.py"), run_name="__main__")
    arrays = FewShotArrays(tmp_path / "a")
    file = np.load(npz, allow_pickle=False)
    np.testing.assert_array_equal(arrays.images[..., 0], file["images"])
    assert len(arrays.classes("train", "validation")) == 1200
    assert (arrays.counts == 20).all()


def test_wrong_use(tmp_path):
    with pytest.raises(InputError, match="neither images_background"):
        prepare_from_images(tmp_path, tmp_path / "out")
    as_zips(tmp_path)
    (tmp_path / "images_evaluation").mkdir()
    with pytest.raises(InputError, match="2 characters, none of them for test"):
        prepare_from_images(tmp_path, tmp_path / "out")
    (tmp_path / "images_evaluation").rmdir()
    as_zips(tmp_path, count=19)
    with pytest.raises(InputError, match="19 drawings instead of 20"):
        prepare_from_images(tmp_path, tmp_path / "out")
    (tmp_path / "images_background.zip").write_bytes(b"PK half a file")
    with pytest.raises(InputError, match="damaged"):
        prepare_from_images(tmp_path, tmp_path / "out")
    (tmp_path / "a.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot read"):
        prepare_from_npz(tmp_path / "a.npz", tmp_path / "out")
    np.savez(tmp_path / "b.npz", images=np.zeros(3))
    with pytest.raises(InputError, match="has no array"):
        prepare_from_npz(tmp_path / "b.npz", tmp_path / "out")
    np.savez(tmp_path / "c.npz", images=np.array([object()], dtype=object))
    with pytest.raises(InputError, match="plain arrays"):
        prepare_from_npz(tmp_path / "c.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_class_count_must_match_labels(shared, tmp_path):
    file = dict(np.load(shared / "data" / "omniglot28.npz", allow_pickle=False))
    np.savez(tmp_path / "a.npz", **(file | {"class_split_vinyals": file["class_split_vinyals"][:-1]}))
    with pytest.raises(InputError, match="1622 classes, but labels up to 1622"):
        prepare_from_npz(tmp_path / "a.npz", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "class_character_no",
            lambda a: a[:-1],
            "1623 classes, but the alphabets of 1623 and the numbers of 1622",
        ),
        ("class_alphabet_id", lambda a: a + 1, "alphabets from 0 to 49 .* got 1 to 50"),
        ("class_split_vinyals", lambda a: a + 1, "splits from 0 to 2, got 0 to 49 and 1 to 3"),
    ],
)
def test_npz_whose_parts_do_not_match(shared, tmp_path, name, change, message):
    file = dict(np.load(shared / "data" / "omniglot28.npz", allow_pickle=False))
    np.savez(tmp_path / "a.npz", **(file | {name: change(file[name])}))
    with pytest.raises(InputError, match=message):
        prepare_from_npz(tmp_path / "a.npz", tmp_path / "out")


def placed(folder, kind):
    """Omniglot as people have it; gives what to name on the command line."""
    files = list(official())
    if kind == "official zip files":
        return as_zips(folder)
    if kind == "clone":
        (folder / "python").mkdir()
        as_zips(folder / "python")
        (folder / "matlab").mkdir()
        return folder
    if kind == "zip of the clone":
        as_zips(folder)
        with zipfile.ZipFile(folder / "omniglot-master.ZIP", "w") as archive:
            for part in ("images_background", "images_evaluation"):
                archive.write(folder / f"{part}.zip", f"omniglot-master/python/{part}.zip")
                (folder / f"{part}.zip").unlink()
        return folder / "omniglot-master.ZIP"
    if kind == "one zip":
        with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
            for _, path, content in files:
                archive.writestr(f"./{path.split('/')[0]}/{path}", content)
        return folder
    above = {"torchvision": "omniglot-py/", "unpacked": "", "kaggle": "", "upper": ""}[kind]
    for part, path, content in files:
        inner = (
            f"{part}/{path}"
            if kind == "kaggle"
            else path.replace(".png", ".PNG")
            if kind == "upper"
            else path
        )
        target = folder / f"{above}{inner}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        (target.parent / f"._{target.name}").write_bytes(b"junk")
        (target.parent / "Thumbs.db").write_bytes(b"junk")
    if kind == "torchvision":
        as_zips(folder / "omniglot-py")  # it keeps what it unpacked
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        *("official zip files", "clone", "zip of the clone", "one zip"),
        *("torchvision", "unpacked", "kaggle", "upper"),
    ],
)
def test_every_layout_gives_the_same(kind, tmp_path):
    (tmp_path / "known").mkdir()
    (tmp_path / "given").mkdir()
    prepare_from_images(as_zips(tmp_path / "known"), tmp_path / "a")
    prepare_from_images(placed(tmp_path / "given", kind), tmp_path / "b")
    a, b = FewShotArrays(tmp_path / "a"), FewShotArrays(tmp_path / "b")
    assert a.names == b.names and a.splits == b.splits
    np.testing.assert_array_equal(a.images, b.images)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "L"])
def test_drawings_of_every_mode_have_bright_ink_on_a_dark_ground(mode, tmp_path):
    """A transparent ground is paper, and 16 bits are scaled."""
    ink = np.full((105, 105), 255, np.uint8)
    ink[40:60, 10:30] = 0
    for _, path, _ in official():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if mode == "I;16":
            Image.fromarray(ink.astype(np.uint16) * 257).save(target)
        elif mode == "L":
            Image.fromarray(ink).save(target)
        else:
            clear = Image.new("L", (105, 105), 0)
            clear.putalpha(Image.fromarray(255 - ink))
            clear.convert(mode).save(target)
    prepare_from_images(tmp_path, tmp_path / "out")
    images = FewShotArrays(tmp_path / "out").images
    assert images[0, 0, 0] == 0 and images[0].max() == 255 and images[0].mean() < 20


def test_a_size_of_zero_is_told(tmp_path):
    with pytest.raises(InputError, match="size must be at least 1, got 0"):
        prepare_from_images(as_zips(tmp_path), tmp_path / "out", size=0)


def test_random_characters_do_not_depend_on_the_order_of_the_names():
    names = [f"Latin/character{i:04d}" for i in range(1623)]
    split = random_split(names)
    assert [len(split[name]) for name in ("train", "validation", "test")] == [1150, 50, 423]
    assert sorted(k for part in split.values() for k in part) == list(range(1623))
    turned = random_split(names[::-1])
    assert [names[k] for k in split["test"]] == [names[::-1][k] for k in turned["test"]]
    assert random_split(names, seed=1) != split


def test_the_split_is_named_in_the_folder(shared, tmp_path):
    prepare_from_npz(shared / "data" / "omniglot28.npz", tmp_path / "a", "random_characters", seed=3)
    arrays = FewShotArrays(tmp_path / "a")
    assert arrays.protocol == "random_characters"
    assert arrays.splits == random_split(arrays.names, 3)
    alphabets = [{arrays.names[k].split("/")[0] for k in arrays.classes(name)} for name in ("train", "test")]
    assert len(alphabets[0] & alphabets[1]) > 40  # nearly all alphabets are in both


def test_too_few_characters_for_a_random_split(tmp_path):
    with pytest.raises(InputError, match="none of them for validation"):
        prepare_from_images(as_zips(tmp_path), tmp_path / "out", split="random_characters")
