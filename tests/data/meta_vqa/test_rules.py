"""The rules, one by one on rows made for it, and all together against a slow version written down anew."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightgen.data.meta_vqa.rules import Row, Rules, build_meta_vqa, merge_validation, split_validation
from weightgen.errors import InputError

SMALL = Rules(min_examples=4, task_fraction=1.0, validation_fraction=0.0)


def rows(question: str, answers: str, first: int = 0) -> list[Row]:
    return [Row(question, f"image{first + i}", answer, "other") for i, answer in enumerate(answers)]


def only_task(source, rules=SMALL):
    (task,) = build_meta_vqa(source, rules)["train"]
    return task


def shown(task) -> dict[str, str]:
    images, labels = task.support_images + task.query_images, task.support_labels + task.query_labels
    return {image: task.answers[label] for image, label in zip(images, labels, strict=True)}


def test_a_question_becomes_a_task():
    task = only_task(rows("What color is the cat?", "rrbb"))
    assert (task.question, task.answers, task.template) == (
        "What color is the cat?",
        ["r", "b"],
        "the cat is {}",
    )
    assert shown(task) == {"image0": "r", "image1": "r", "image2": "b", "image3": "b"}
    assert task.support_labels == [0, 1] and task.query_labels == [0, 1]


def test_plain_triples_do_as_well():
    triples = [row[:3] for row in rows("Q", "rrbb")]
    assert only_task(triples) == only_task(rows("Q", "rrbb"))


def with_meanings(questions: int, wordings: int) -> list[Row]:
    made = [(f"Q{m} {w}", f"meaning {m}") for m in range(questions) for w in range(wordings)]
    return [row._replace(meaning=meaning) for question, meaning in made for row in rows(question, "rrbb")]


def test_splits_share_no_meaning():
    rules = Rules(min_examples=4, task_fraction=0.5, validation_fraction=0.2)
    splits = build_meta_vqa(with_meanings(20, 3), rules)
    meanings = {name: {task.meaning for task in tasks} for name, tasks in splits.items()}
    assert {name: len(found) for name, found in meanings.items()} == {"train": 8, "validation": 2, "test": 10}
    assert len(set.union(*meanings.values())) == 20
    assert {name: len(tasks) for name, tasks in splits.items()} == {"train": 24, "validation": 6, "test": 30}


def test_without_meanings_splits_are_by_question():
    rules = Rules(min_examples=4, task_fraction=0.5, validation_fraction=0.2)
    bare = [row._replace(meaning=None) for row in with_meanings(20, 3)]
    splits = build_meta_vqa(bare, rules)
    assert {name: len(tasks) for name, tasks in splits.items()} == {"train": 24, "validation": 6, "test": 30}
    assert {task.meaning for tasks in splits.values() for task in tasks} == {""}
    # As if every question were a meaning of its own.
    alone = build_meta_vqa([row._replace(meaning=row.question) for row in bare], rules)
    assert [task.question for task in alone["train"]] == [task.question for task in splits["train"]]


def test_first_answer_of_an_image_wins():
    assert shown(only_task(rows("Q", "rrbb") + rows("Q", "bbrr")))["image0"] == "r"


def test_type_is_looked_at_before_the_first_answer():
    polar = [Row("Q", "image0", "yes", "yes/no")]
    assert shown(only_task(polar + rows("Q", "rrbb")))["image0"] == "r"


def test_other_types_on_request():
    both = [replaced._replace(answer_type="yes/no") for replaced in rows("Q", "ynyn")]
    task = only_task(both, replace(SMALL, answer_types=("yes/no",)))
    assert task.answers == ["y", "n"]


def test_rare_answers_go_and_then_small_questions():
    assert only_task(rows("Q", "rrbbx")).answers == ["r", "b"]
    with pytest.raises(InputError, match="the one asked most has 4 images"):
        build_meta_vqa(rows("Q", "rrrx"), SMALL)


def test_questions_of_one_answer_or_with_an_excluded_word_go():
    good = rows("Q", "rrbb")
    assert only_task(good + rows("One?", "rrrrr") + rows("Red or blue?", "rrbb")).question == "Q"
    assert len(build_meta_vqa(good + rows("More?", "rrbb") + rows("An orange?", "rrbb"), SMALL)["train"]) == 3


def test_the_default_asks_for_more_than_twenty():
    twenty, more = rows("twenty", "rb" * 10), rows("more", "rb" * 10 + "r")
    splits = build_meta_vqa(twenty + more, replace(Rules(), task_fraction=1.0, validation_fraction=0))
    assert [task.question for task in splits["train"]] == ["more"]


def test_halves_round_to_even():
    # 0.7 * 5 = 3.5 -> 4 and 0.5 * 5 = 2.5 -> 2, as Python's round does
    assert len(only_task(rows("Q", "rrrrrbbbbb")).support_images) == 8
    assert len(only_task(rows("Q", "rrrrrbbbbb"), replace(SMALL, support_fraction=0.5)).support_images) == 4


def test_all_tasks_can_be_test_tasks():
    splits = build_meta_vqa(rows("Q", "rrbb"), Rules(min_examples=4, task_fraction=0))
    assert {name: len(tasks) for name, tasks in splits.items()} == {"train": 0, "validation": 0, "test": 1}


@pytest.mark.parametrize("count", [0, 1, 2, 9, 100])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 1.0])
def test_validation_goes_back_to_its_places(count, fraction):
    train, validation = split_validation(list(range(count)), fraction, seed=3)
    assert len(validation) == round(count * fraction)
    assert train == sorted(train) and validation == sorted(validation)
    assert merge_validation(train, validation, seed=3) == list(range(count))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"min_examples": 1}, "min_examples must be a whole number of at least 2, got 1"),
        ({"min_per_answer": 2.5}, "min_per_answer"),
        ({"support_fraction": 1.0}, "support_fraction must lie between 0 and 1"),
        ({"task_fraction": float("nan")}, "task_fraction"),
        ({"validation_fraction": -0.1}, "validation_fraction"),
        ({"seed": "x"}, "seed"),
        ({"excluded_words": "or"}, r"write \('or',\)"),
        ({"answer_types": [1]}, "answer_types"),
    ],
)
def test_wrong_rules(wrong, told):
    with pytest.raises(InputError, match=told):
        Rules(**wrong)


@pytest.mark.parametrize("wrong", [("q", "i"), ("q", "i", 3), "qia", ("q", None, "a"), 7])
def test_wrong_rows(wrong):
    with pytest.raises(InputError, match="row 4: expected .* got"):
        build_meta_vqa([*rows("Q", "rrbb"), wrong], SMALL)


def test_no_query_left():
    with pytest.raises(InputError, match="leaves 'Q' without query images"):
        build_meta_vqa(rows("Q", "rrbb"), replace(SMALL, support_fraction=0.9))


def slow_build(source, rules):
    """The rules of the paper and its code, in their order, with nothing shared with the builder."""
    source = [row for row in source if row.answer_type in rules.answer_types]
    kept = {}
    for question in dict.fromkeys(row.question for row in source):
        pairs, images = [], []
        for row in source:
            if row.question == question and row.image not in images:
                pairs.append((row.image, row.answer))
                images.append(row.image)
        counts = Counter(answer for _, answer in pairs)
        pairs = [pair for pair in pairs if counts[pair[1]] >= rules.min_per_answer]
        answers = list(dict.fromkeys(answer for _, answer in pairs))
        words = question.split(" ")
        if len(pairs) >= rules.min_examples and len(answers) >= rules.min_answers and "or" not in words:
            kept[question] = (pairs, answers)
    questions = list(kept)
    Random(rules.seed).shuffle(questions)
    tasks = []
    for question in questions:
        pairs, answers = kept[question]
        support, query = [], []
        for answer in answers:
            images = [image for image, given in pairs if given == answer]
            Random(rules.seed).shuffle(images)
            cut = round(len(images) * rules.support_fraction)
            support += [(image, answer) for image in images[:cut]]
            query += [(image, answer) for image in images[cut:]]
        tasks.append((question, answers, support, query))
    cut = round(len(tasks) * rules.task_fraction)
    return {"train": tasks[:cut], "test": tasks[cut:]}


some_rows = st.lists(
    st.builds(
        Row,
        st.sampled_from(["a?", "b?", "c?", "a or b?", "A?"]),
        st.integers(0, 8).map("image{}".format),
        st.sampled_from("xyz"),
        st.sampled_from(["other", "other", "number", "yes/no"]),
    ),
    max_size=120,
)


@given(some_rows, st.integers(0, 3), st.sampled_from([0.3, 0.5, 0.7]))
def test_against_the_slow_version(source, seed, fraction):
    rules = Rules(min_examples=5, task_fraction=fraction, validation_fraction=0, seed=seed)
    expected = slow_build(source, rules)
    if not any(expected.values()):
        with pytest.raises(InputError, match="no question became a task"):
            build_meta_vqa(source, rules)
        return
    splits = build_meta_vqa(source, rules)
    assert {
        name: [
            (
                task.question,
                task.answers,
                [(i, task.answers[n]) for i, n in zip(task.support_images, task.support_labels, strict=True)],
                [(i, task.answers[n]) for i, n in zip(task.query_images, task.query_labels, strict=True)],
            )
            for task in tasks
        ]
        for name, tasks in splits.items()
    } == expected
