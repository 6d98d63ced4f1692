"""From class folders to a pair of towers, from the pair to features, as the recipes are run."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.recipes.small import loaded
from tests.towers import TIMM, tiny_image_weights, tiny_text_tower
from weightgen import InputError
from weightgen.data import load_tasks
from weightgen.data.meta_vqa.disk import Task, save_meta_vqa
from weightgen.encoders.load import load_encoder
from weightgen.training.config import parse

CLASSES = [f"class_{i:02d}" for i in range(15)]


@pytest.fixture
def words(tmp_path):
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{name}-{i}.png")
    weights, text = tiny_image_weights(tmp_path / "x.safetensors"), tiny_text_tower(tmp_path / "text")
    towers = [f"image_tower={TIMM}", f"image_weights={weights}", f"text_tower={text}", "size=32", "dim=6"]
    return [f"images={tmp_path / 'images'}", f"output={tmp_path / 'pair'}", "per_class=2", *towers]


def run(root, name, words):
    recipe = loaded(root, name)
    recipe.main(parse(recipe.Config, recipe.__doc__, words))


def test_from_class_folders_to_features(root, words, tmp_path):
    run(root, "fit_alignment", words)
    report = json.loads((tmp_path / "pair/alignment.json").read_text())
    assert len(report["classes_held_out"]) == report["held_out"]["classes"] == 3
    assert 0 <= report["held_out"]["top1"] <= report["held_out"]["top5"] == 1
    names = [f"{name}-{i}" for name in CLASSES for i in range(2)]
    labels = [i % 2 for i in range(30)]
    task = Task(
        "what color is it?", ["red", "blue"], names[:16], labels[:16], names[16:], labels[16:], "it is {}"
    )
    save_meta_vqa({"train": [task]}, tmp_path / "data")
    given = f"encoder={{folder: {tmp_path / 'pair'}}}"
    run(root, "embed", [f"dataset={tmp_path / 'data'}", f"images={tmp_path / 'images'}", given])
    (tasks,) = load_tasks(tmp_path / "data", "train")
    encoder = load_encoder(tmp_path / "pair")
    assert tasks.store.load_encoder().digest == encoder.digest
    assert tasks[0].embeds.shape == (16,) and tasks[0].query.inputs.shape == (14, 6)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["images=nowhere"], "no folder nowhere"),
        (["held_out=[dog]"], "held_out names the class 'dog'"),
        (["templates=[a photo]"], "exactly one {} for the class, got 'a photo'"),
        (["image_tower=mine"], "timm knows no image tower"),
        (["dim=99"], "dimension from 1 to"),
    ],
)
def test_wrong_use(root, words, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        run(root, "fit_alignment", [*words, *more])
    assert not (tmp_path / "pair").exists()


def test_a_class_without_a_picture(root, words, tmp_path):
    (tmp_path / "images/empty").mkdir()
    with pytest.raises(InputError, match="images/empty holds no picture"):
        run(root, "fit_alignment", words)
