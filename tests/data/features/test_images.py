import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from weightgen import InputError
from weightgen.data.features.images import BrokenImage, ImageStore

NAMES = ["COCO_train2014_000000000009", "COCO_val2014_000000000042"]


def colour(number):
    return (40 * number + 10, 200 - 40 * number, 7)


def save(path, number=0, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), colour(number)).convert(mode).save(path)
    return path


@pytest.fixture
def coco(tmp_path):
    """Two images as COCO unpacks them."""
    for number, name in enumerate(NAMES):
        save(tmp_path / "coco" / name.split("_")[1] / f"{name}.png", number)
    return tmp_path / "coco"


def zipped(folder, target):
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder))
    return target


def check(store):
    for number, name in enumerate(NAMES):
        assert name in store
        image = store.open(name)
        assert image.mode == "RGB" and image.getpixel((3, 3)) == colour(number)


def test_a_coco_tree(coco):
    check(ImageStore(coco))
    check(ImageStore(coco.parent))  # a level above
    assert len(ImageStore(coco)) == 2


def test_a_flat_folder(coco, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in coco.rglob("*.png"):
        path.rename(flat / path.name)
    check(ImageStore(flat))


def test_a_zip_is_read_in_place(coco, tmp_path):
    check(ImageStore(zipped(coco, tmp_path / "all.zip")))


def test_zips_as_downloaded(coco, tmp_path):
    (tmp_path / "zips").mkdir()
    for part in ("train2014", "val2014"):
        zipped(coco / part, tmp_path / "zips" / f"{part}.zip")
    check(ImageStore(tmp_path / "zips"))


def test_what_is_unpacked_goes_before_what_is_zipped(coco, tmp_path):
    for path in coco.rglob("*.png"):
        save(tmp_path / "old" / path.name, 3)
    zipped(tmp_path / "old", coco / "old.zip")
    check(ImageStore(coco))


def test_several_threads_read_one_zip(coco, tmp_path):
    store = ImageStore(zipped(coco, tmp_path / "all.zip"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: check(store), range(40)))


def test_names_with_suffix_and_folder(coco):
    store = ImageStore(coco)
    name = NAMES[0]
    assert f"{name}.png" in store and f"train2014/{name}" in store and f"train2014/{name}.png" in store
    assert f"{name}.jpg" not in store and f"val2014/{name}" not in store and f"{name}.tar" not in store


@pytest.mark.parametrize(
    "name",
    ["../secret", "../secret.png", "/etc/passwd", "a/../../secret", "..", "", "/", "coco/../../secret"],
)
def test_no_name_leaves_the_folder(coco, name):
    save(coco.parent / "secret.png")
    store = ImageStore(coco)
    assert name not in store and f"{coco.parent}/secret.png" not in store
    with pytest.raises(BrokenImage, match="missing"):
        store.open(name)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), 1, mode)
    image = ImageStore(tmp_path).open("a")
    assert image.mode == "RGB" and np.asarray(image).shape == (4, 6, 3)


def test_two_files_of_one_name_are_not_guessed_between(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b" / "a.png")
    store = ImageStore(tmp_path)
    with pytest.raises(BrokenImage, match=r"ambiguous: a.png and b/a.png"):
        store.open("a")
    assert store.open("b/a").size == (6, 4)


def test_broken_images_say_why(tmp_path):
    whole = save(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    store = ImageStore(tmp_path)
    for name in ("cut", "text", "empty", "folder", "dangling"):
        assert name in store
        with pytest.raises(BrokenImage, match=r"cannot be decoded: \S+"):
            store.open(name)


def test_a_damaged_entry_of_a_zip_is_a_broken_image(coco, tmp_path):
    path = zipped(coco, tmp_path / "all.zip")
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") + 6
    data[at] ^= 255
    path.write_bytes(data)
    with pytest.raises(BrokenImage, match="cannot be decoded"):
        ImageStore(path).open(NAMES[0])


def test_what_is_no_image_folder(tmp_path):
    with pytest.raises(InputError, match="no image folder"):
        ImageStore(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no images"):
        ImageStore(tmp_path)
    (tmp_path / "a.zip").write_text("not a zip")
    with pytest.raises(InputError, match=r"a\.zip is not a zip file"):
        ImageStore(tmp_path / "a.zip")
    with pytest.raises(InputError, match=r"a\.zip is not a zip file"):
        ImageStore(tmp_path)


def test_a_forked_process_opens_the_zip_anew(coco, tmp_path):
    store = ImageStore(zipped(coco, tmp_path / "all.zip"))
    check(store)
    before = list(store._archives)
    store._archives = {
        (pid + 1, path): file for (pid, path), file in store._archives.items()
    }  # as after a fork
    check(store)
    assert set(before) < set(store._archives)


@pytest.mark.parametrize("name", ["./a.png", "x//a.png", "x\\a.png", "/a.png", "x/./a.png"])
def test_members_of_zips_are_found_however_they_are_named(name, tmp_path):
    save(tmp_path / "a.png", 3)
    info = zipfile.ZipInfo("a.png")
    info.filename = name  # the constructor would change it
    with zipfile.ZipFile(tmp_path / "all.ZIP", "w") as file:
        file.writestr(info, (tmp_path / "a.png").read_bytes())
    (tmp_path / "a.png").unlink()
    for root in (tmp_path, tmp_path / "all.ZIP"):
        store = ImageStore(root)
        assert store.open("a").getpixel((3, 3)) == colour(3) == store.open("a.png").getpixel((3, 3))
        if "x" in name:
            assert "x/a.png" in store and "x\\a.png" in store and "./x/a.png" in store


def test_webp_is_seen_and_stray_files_are_skipped_and_counted(tmp_path):
    save(tmp_path / "a.webp", 1)
    save(tmp_path / "a.png", 2).rename(tmp_path / "._a.png")
    save(tmp_path / ".ipynb_checkpoints/a.png")
    (tmp_path / "Thumbs.db").write_bytes(b"junk")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("__MACOSX/._b.png", b"junk")
        file.write(save(tmp_path / "b.png"), "b.png")
    store = ImageStore(tmp_path)
    assert store.open("a").size == (6, 4)
    assert len(store) == 3 and store.skipped == 4  # a, b and b of the zip
