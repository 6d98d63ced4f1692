"""The builder against the split that the paper's authors released: `make meta-vqa-check`."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest

from weightgen.data.meta_vqa.disk import Rules, Task, build_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.release import export_release, read_release
from weightgen.data.meta_vqa.vqa_v2 import VqaV2

PAPER = {  # section 5.1; its 1234 is a slip for 870 + 373, and its means are cut off, not rounded
    "tasks": "1234 (a slip for 1243)",
    "train tasks": "870",
    "test tasks": "373",
    "image-answer pairs": "104112",
    "answers per task": "9.13",
    "support per task": "57.85",
    "query per task": "25.9",
}
RELEASED_SHA256 = {  # of the files as released
    "meta_train.json": "12df296da42bc189e0ec4b30622945b2f2b7d4fc55d122255a2e5937553ce207",
    "meta_test.json": "8a3885788ff8f713e01cf9c1295223f2c1bdbac053b7bc8e2417d159050358ad",
}
PAPERS_SPLITS = Rules(validation_fraction=0)

Released = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def released(shared: Path) -> dict[str, Released]:
    return json.loads(gzip.decompress((shared / "data" / "meta_vqa.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def built(shared: Path) -> dict[str, list[Task]]:
    return build_meta_vqa(VqaV2(shared / "data" / "vqa_v2_from_meta"), PAPERS_SPLITS)


def as_released(tasks: list[Task]) -> list[tuple[str, dict[str, Any]]]:
    """Questions, rows and answers in their order."""
    return [
        (
            task.question,
            {
                "train": [
                    [i, task.answers[n]]
                    for i, n in zip(task.support_images, task.support_labels, strict=True)
                ],
                "test": [
                    [i, task.answers[n]] for i, n in zip(task.query_images, task.query_labels, strict=True)
                ],
                "answers": task.answers,
            },
        )
        for task in tasks
    ]


def test_same_tasks_in_the_same_order_with_the_same_rows(built, released):
    assert list(built) == ["train", "test"]
    for split in built:
        assert as_released(built[split]) == list(released[split].items())


def test_the_papers_seven_numbers(built):
    tasks = [task for split in built.values() for task in split]
    ours = {
        "tasks": f"{len(tasks)}",
        "train tasks": f"{len(built['train'])}",
        "test tasks": f"{len(built['test'])}",
        "image-answer pairs": f"{sum(len(t.support_images) + len(t.query_images) for t in tasks)}",
        "answers per task": f"{fmean(len(t.answers) for t in tasks):.3f}",
        "support per task": f"{fmean(len(t.support_images) for t in tasks):.3f}",
        "query per task": f"{fmean(len(t.query_images) for t in tasks):.3f}",
    }
    print(f"\n{'':20}{'paper':>24}{'recomputed':>12}")
    for name, value in ours.items():
        print(f"{name:20}{PAPER[name]:>24}{value:>12}")
    assert list(ours.values()) == ["1243", "870", "373", "104112", "9.138", "57.856", "25.903"]


def test_export_has_the_released_bytes(built, tmp_path):
    export_release(built, tmp_path / "json")
    for name, expected in RELEASED_SHA256.items():
        assert hashlib.sha256((tmp_path / "json" / name).read_bytes()).hexdigest() == expected


def test_validation_is_a_slice_of_training_and_leaves_the_rest_alone(built, shared):
    splits = build_meta_vqa(VqaV2(shared / "data" / "vqa_v2_from_meta"))
    assert {name: len(tasks) for name, tasks in splits.items()} == {
        "train": 783,
        "validation": 87,
        "test": 373,
    }
    assert splits["test"] == built["test"]
    held_out = {task.question for task in splits["validation"]}
    assert [task for task in built["train"] if task.question not in held_out] == splits["train"]
    assert [task for task in built["train"] if task.question in held_out] == splits["validation"]


def test_the_release_itself_as_source(built, released, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps(released[split]))
    splits, sources = read_release(tmp_path / "train.json", tmp_path / "test.json", validation_fraction=0)
    assert splits == built
    assert [source["sha256"] for source in sources] == list(RELEASED_SHA256.values())
    with_validation, _ = read_release(tmp_path / "train.json", tmp_path / "test.json")
    export_release(with_validation, tmp_path / "json")  # validation tasks go back to their places
    for name, expected in RELEASED_SHA256.items():
        assert hashlib.sha256((tmp_path / "json" / name).read_bytes()).hexdigest() == expected


def test_still_the_same_on_disk(built, released, tmp_path):
    from datasets import load_from_disk

    save_meta_vqa(built, tmp_path / "meta_vqa")
    splits = load_from_disk(str(tmp_path / "meta_vqa"))
    for split in built:
        assert as_released([Task(**row) for row in splits[split]]) == list(released[split].items())


def test_rows_that_the_rules_must_ignore_change_nothing(shared, released, tmp_path):
    records = 0
    for place, subtype in enumerate(("train2014", "val2014")):
        questions, annotations = read_subtype(shared / "data" / "vqa_v2_from_meta", subtype)
        rows = [
            (
                question["question"],
                record["image_id"],
                record["multiple_choice_answer"],
                record["answer_type"],
            )
            for question, record in zip(questions["questions"], annotations["annotations"], strict=True)
        ]
        mixed = list(with_distractors(rows, Random(place), is_first_file=place == 0))
        records += len(mixed)
        ids = [{"question_id": 10**9 + i, "image_id": row[1]} for i, row in enumerate(mixed)]
        questions["questions"] = [{"question": row[0], **own} for row, own in zip(mixed, ids, strict=True)]
        annotations["annotations"] = [
            {"multiple_choice_answer": row[2], "answer_type": row[3], **own}
            for row, own in zip(mixed, ids, strict=True)
        ]
        for name, content in ((QUESTIONS, questions), (ANNOTATIONS, annotations)):
            (tmp_path / name.format(subtype)).write_text(json.dumps(content))
    assert records > 104_112 + 50_000
    built = build_meta_vqa(VqaV2(tmp_path), PAPERS_SPLITS)
    for split in built:
        assert as_released(built[split]) == list(released[split].items())


QUESTIONS = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS = "v2_mscoco_{}_annotations.json"

VqaRow = tuple[str, int, str, str]


def read_subtype(folder: Path, subtype: str) -> list[dict[str, Any]]:
    """Questions and annotations; both list the same ids in the same order."""
    paths = [folder / (name.format(subtype) + ".gz") for name in (QUESTIONS, ANNOTATIONS)]
    return [json.loads(gzip.decompress(path.read_bytes())) for path in paths]


def with_distractors(rows: list[VqaRow], random: Random, is_first_file: bool) -> Iterator[VqaRow]:
    """The rows in their order, with others mixed in that the rules of the paper must drop."""
    extra = ordered_extras(random) if is_first_file else iter(())
    fresh_image = 10**9
    seen: set[str] = set()
    for i, (question, image, answer, kind) in enumerate(rows):
        if i % 5 == 0:  # of the wrong type, for the same question and image, and before the right row
            yield question, image, "yes", "yes/no"
        yield question, image, answer, kind
        if i % 3 == 0:  # a second answer for the same question and image: the first one counts
            yield question, image, random.choice(["zebra", "2", answer]), "other"
        if question not in seen:  # an answer that this question gets once
            seen.add(question)
            fresh_image += 1
            yield question, fresh_image, f"seen once in {'train' if is_first_file else 'val'}", "other"
        yield from (row for row, _ in zip(extra, range(2), strict=False))
    yield from extra


def ordered_extras(random: Random) -> Iterator[VqaRow]:
    """Rows of questions that do not become tasks, shuffled together."""
    extras: list[VqaRow] = []
    for n in range(300):
        twenty = [(f"Asked exactly twenty times, {n}?", i, str(i % 2), "number") for i in range(20)]
        again = [(question, i, "another", "other") for question, i, _, _ in twenty]  # the same images again
        once = [(f"Twenty and an answer seen once, {n}?", i, str(min(i, 19) % 2), "other") for i in range(20)]
        once.append((once[0][0], 20, "seen once", "other"))
        which = [(f"Is it red or blue, {n}?", i, ("red", "blue")[i % 2], "other") for i in range(30)]
        single = [(f"A question with a single answer, {n}?", i, "blue", "other") for i in range(30)]
        polar = [(f"Is it raining, {n}?", i, ("yes", "no")[i % 2], "yes/no") for i in range(30)]
        upper = [(f"WHAT COLOR IS THE BOWL {n}?", i, ("red", "blue")[i % 2], "other") for i in range(10)]
        extras += twenty + once + which + single + polar + upper
        extras += again if n % 2 else []
    # Shuffling would let "another" come before the answer that it repeats, and that changes nothing: twenty
    # images.
    random.shuffle(extras)
    return iter(extras)
