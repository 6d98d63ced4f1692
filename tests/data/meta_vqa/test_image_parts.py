"""Images are split before questions."""

from dataclasses import replace

import pytest

from weightgen.data.meta_vqa.card import Origin, card, figures
from weightgen.data.meta_vqa.image_parts import image_part, shared_images
from weightgen.data.meta_vqa.rules import Row, Rules, build_meta_vqa
from weightgen.errors import InputError

RULES = Rules(min_examples=4, task_fraction=0.6, validation_fraction=0.3, split_images=True)
ROWS = [Row(f"Q{n}?", f"image{i}", "ab"[(i + n) % 2], "other") for n in range(20) for i in range(200)]


def images(tasks) -> set[str]:
    return {image for task in tasks for image in task.support_images + task.query_images}


def test_no_image_is_in_two_splits():
    splits = build_meta_vqa(ROWS, RULES)
    assert {name: len(tasks) for name, tasks in splits.items()} == {"train": 8, "validation": 4, "test": 8}
    found = {name: images(tasks) for name, tasks in splits.items()}
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 200
    assert shared_images(splits) == {"validation": 0, "test": 0}
    assert len(found["test"]) == pytest.approx(80, abs=15) and len(found["validation"]) == pytest.approx(
        36, abs=12
    )


def test_the_part_of_an_image_depends_on_its_name_and_the_seed_alone():
    parts = [image_part(f"image{i}", 0.6, 0.3, 0) for i in range(200)]
    assert parts == [image_part(f"image{i}", 0.6, 0.3, 0) for i in range(200)]
    assert parts != [image_part(f"image{i}", 0.6, 0.3, 1) for i in range(200)]
    assert set(parts) == {"train", "validation", "test"}


def test_without_it_images_are_shared_and_the_card_says_so():
    shared = build_meta_vqa(ROWS, replace(RULES, split_images=False))
    assert shared_images(shared) == {"validation": 200, "test": 200}
    assert "Warning: images of held-out tasks are in training tasks too (200 of validation" in card(
        figures(shared, Origin())
    )
    assert "No image of a held-out task" in card(figures(build_meta_vqa(ROWS, RULES), Origin()))


def test_answers_that_become_too_rare_go():
    rows = [Row("Q?", f"image{i}", "rare" if i < 6 else "ab"[i % 2], "other") for i in range(200)]
    rules = replace(RULES, task_fraction=0.5, validation_fraction=0.0, min_per_answer=6)
    (task,) = [task for tasks in build_meta_vqa(rows, rules).values() for task in tasks]
    assert task.answers == ["a", "b"]
    (task,) = [
        task for tasks in build_meta_vqa(rows, replace(rules, split_images=False)).values() for task in tasks
    ]
    assert task.answers == ["rare", "a", "b"]


def test_nothing_left_is_told():
    with pytest.raises(InputError, match="split_images left no task with 150 images"):
        build_meta_vqa(ROWS, replace(RULES, min_examples=150, task_fraction=0.5))
