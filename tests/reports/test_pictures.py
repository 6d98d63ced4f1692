"""Pictures for a demo, and what a wrong folder or package says."""

import pytest
from PIL import Image

from weightgen import InputError
from weightgen.data.features.images import ImageStore
from weightgen.data.photos import photographs as source
from weightgen.reports.pictures import folder_pictures, photographs, task_pictures


def test_pictures_of_a_task_have_truths_of_every_answer(tmp_path):
    for i in range(40):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / f"{i}.png")
    task = {
        "answers": ["a", "b"],
        "query_images": [str(i) for i in range(40)],
        "query_labels": [0] * 20 + [1] * 20,
    }
    found = task_pictures(task, ImageStore(tmp_path))
    assert len(found) == 18 and {each.truth for each in found} == {"a", "b"}
    assert all(each.image.getpixel((0, 0))[0] == int(each.name) for each in found)


def test_pictures_of_a_folder(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "b.PNG")
    Image.new("L", (4, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("no photo")
    found = folder_pictures(tmp_path)
    assert [each.name for each in found] == ["a", "b"] and {each.truth for each in found} == {None}
    assert {each.image.mode for each in found} == {"RGB"}


def test_wrong_folders(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        folder_pictures(tmp_path / "missing")
    with pytest.raises(InputError, match="holds no photo"):
        folder_pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png"):
        folder_pictures(tmp_path)


def test_photographs_of_scikit_image():
    pytest.importorskip("skimage")
    assert [each.name for each in photographs()][:2] == ["chelsea", "coffee"]


def test_without_scikit_image(monkeypatch):
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"weightgen\[photos\]"):
        photographs()
