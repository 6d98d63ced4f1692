"""Questions of every split, photos of every source, and the tasks made of both."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from weightgen.data.features.images import ImageStore
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.image_parts import shared_images
from weightgen.data.photos.build import Sizes, build_photo_tasks, photo_pools
from weightgen.data.photos.cifar import Photo, read_parquet, read_torchvision
from weightgen.data.photos.knowledge import CLASSES, load_knowledge
from weightgen.data.photos.splits import (
    NOVEL_ATTRIBUTES,
    UNSEEN,
    VALIDATION_UNSEEN,
    Plan,
    plan_splits,
    seen_classes,
)
from weightgen.errors import InputError

PLAN = plan_splits(load_knowledge())
SIZES = Sizes(train_photos=4, validation_photos=4, test_photos=4, support=8, query=8)
ROOT = Path(__file__).parents[3]
PARTS = ("support_images", "query_images")


def meanings(split):
    return {each.meaning for each in PLAN[split]}


def classes(split):
    return {name for each in PLAN[split] for names in each.classes.values() for name in names}


def test_sizes_of_the_splits():
    assert len(PLAN["train"]) >= 500 and len(meanings("train")) >= 300
    for name, least in (("random_questions", 100), ("novel_compositions", 100), ("unseen_classes", 100)):
        assert len(PLAN[name]) >= least and len(PLAN["validation_" + name]) >= 50
    parts = [each for name, asked in PLAN.items() if name.startswith("validation_") for each in asked]
    assert PLAN["validation"] == parts


def test_random_questions_are_other_words_of_known_meanings():
    known = {each.question for each in PLAN["train"]}
    for name in ("random_questions", "validation_random_questions"):
        assert meanings(name) <= meanings("train") and not known & {each.question for each in PLAN[name]}


def test_novel_compositions_are_new_though_their_parts_are_known():
    for name in ("novel_compositions", "validation_novel_compositions"):
        assert not meanings(name) & meanings("train")
        assert {each.attribute for each in meanings(name)} <= {each.attribute for each in meanings("train")}
        assert {each.group for each in meanings(name)} <= {each.group for each in meanings("train")}
        learned = {(each.meaning.attribute, repr(each.classes)) for each in PLAN["train"]}
        assert not learned & {(each.meaning.attribute, repr(each.classes)) for each in PLAN[name]}
    assert not meanings("novel_compositions") & meanings("validation_novel_compositions")


def test_classes_and_attributes_are_held_out():
    assert len(UNSEEN) == 20 and len(VALIDATION_UNSEEN) == 10 and len(seen_classes()) == 70
    assert classes("train") <= set(seen_classes()) >= classes("novel_attributes")
    assert classes("unseen_classes") <= set(UNSEEN) and classes("validation_unseen_classes") <= set(
        VALIDATION_UNSEEN
    )
    assert {each.attribute for each in meanings("novel_attributes")} == set(NOVEL_ATTRIBUTES)
    assert not {each.attribute for each in meanings("train")} & set(NOVEL_ATTRIBUTES)


def test_the_same_seed_asks_the_same():
    knowledge = load_knowledge()
    assert plan_splits(knowledge) == PLAN and plan_splits(knowledge, Plan(seed=1)) != PLAN
    with pytest.raises(InputError, match="at least 1"):
        Plan(train_questions=0)


def made_up(per_part=10):
    return [
        Photo(f"{name}-{part}{i:02}", name, part, b"")
        for name in CLASSES
        for part in ("train", "test")
        for i in range(per_part)
    ]


def test_tasks_draw_from_the_photos_of_their_split_and_the_answers_classes():
    tasks = build_photo_tasks(PLAN, photo_pools(made_up(), SIZES), SIZES)
    assert {name: len(split) for name, split in tasks.items()} == {
        name: len(asked) for name, asked in PLAN.items()
    }
    assert set(shared_images(tasks).values()) == {0}
    for name, split in tasks.items():
        for task, asked in zip(split, PLAN[name], strict=True):
            support, query = set(task.support_images), set(task.query_images)
            assert not support & query and set(task.support_labels) == set(task.query_labels) == set(
                range(len(task.answers))
            )
            pairs = zip(
                task.support_images + task.query_images, task.support_labels + task.query_labels, strict=True
            )
            assert all(image.split("-")[0] in asked.classes[task.answers[label]] for image, label in pairs)
            assert task.meaning == "/".join(asked.meaning) and task.template == "{}"
    assert [task for task in tasks["validation"] if task in tasks["validation_random_questions"]]


def test_too_few_photos_are_told():
    with pytest.raises(InputError, match="class 'apple' has 10 train photos; expected at least 11"):
        photo_pools(made_up(), Sizes(train_photos=8, validation_photos=3, test_photos=4))
    with pytest.raises(InputError, match="support must be a whole number"):
        Sizes(support=1)


def png(seed) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
        buffer, "png"
    )
    return buffer.getvalue()


def write_parquet(folder, per_class=8, names=CLASSES, labels=None, column="fine_label"):
    folder.mkdir(exist_ok=True)
    for part, offset in (("train", 0), ("test", 10**6)):
        label = [i % 100 for i in range(100 * per_class)] if labels is None else labels
        img = [{"bytes": png(offset + i), "path": None} for i in range(len(label))]
        table = pa.table({"img": img, column: label})
        about = {"info": {"features": {"fine_label": {"names": list(names)}}}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps(about).encode()})
        pq.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    return folder


def test_parquet(tmp_path):
    photos = read_parquet(write_parquet(tmp_path / "cifar100", 1).parent)
    assert len(photos) == 200 and {photo.class_name for photo in photos} == set(CLASSES)
    assert photos[0].name.startswith("apple-") and photos[0].png == png(0)
    again = read_parquet(write_parquet(tmp_path / "twice", labels=[0, 0]))
    assert len(again) == 4


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"column": "label"}, "expected columns img and fine_label, got img, label"),
        ({"names": ["dragon", *CLASSES[1:]]}, "class 'dragon' is not in the table"),
        ({"names": CLASSES[::-1]}, "the classes are in another order"),
        ({"labels": [100]}, "expected fine_label from 0 to 99, got 100"),
    ],
)
def test_wrong_parquet(tmp_path, how, told):
    with pytest.raises(InputError, match=told):
        read_parquet(write_parquet(tmp_path / "wrong", **{"per_class": 1, **how}))


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=r"has no train-\*.parquet"):
        read_parquet(tmp_path)
    with pytest.raises(InputError, match="expected torchvision's cifar-100-python there"):
        read_torchvision(tmp_path)
    (tmp_path / "train-0.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="expected a Parquet file of cifar100"):
        read_parquet(tmp_path)


def test_prepare(tmp_path):
    sizes = [
        "--train-photos",
        "4",
        "--validation-photos",
        "4",
        "--test-photos",
        "4",
        "--support",
        "6",
        "--query",
        "6",
    ]
    arguments = ["--parquet", write_parquet(tmp_path / "in"), "--output-dir", tmp_path / "out", *sizes]
    command = [sys.executable, ROOT / "data" / "photos" / "prepare.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "No image of a held-out task is in a training task" in done.stdout
    splits = load_meta_vqa(tmp_path / "out" / "dataset")
    assert set(splits) == set(PLAN) and splits["train"][0]["meaning"].count("/") == 1
    store = ImageStore(tmp_path / "out" / "images.zip")
    assert store.open(splits["unseen_classes"][0]["query_images"][0]).size == (32, 32)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode != 0 and "exists already" in again.stderr and "Traceback" not in again.stderr
    _unpacked_classes(tmp_path, splits)


def _unpacked_classes(folder, splits):
    """class_folders.py takes photos of seen classes from training tasks only, and names the others."""
    command = [sys.executable, "data/photos/class_folders.py", "--data", str(folder / "out"), "--output"]
    done = subprocess.run([*command, str(folder / "classes")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    held = set(done.stdout.partition("held_out=[")[2].partition("]")[0].split(","))
    found = {path.name: {file.stem for file in path.iterdir()} for path in (folder / "classes").iterdir()}
    assert held == found.keys() - set(seen_classes()) and held >= set(UNSEEN)
    train = {name for row in splits["train"] for part in PARTS for name in row[part]}
    assert all(found[name] <= train for name in found.keys() - held)
    (folder / "out" / "images.zip").unlink()
    done = subprocess.run([*command, str(folder / "none")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "images.zip is missing" in done.stderr and "Traceback" not in done.stderr
