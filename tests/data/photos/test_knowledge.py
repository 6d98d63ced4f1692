"""The table of what is known of the classes is consistent, and its faults are told."""

import json
from collections import Counter

import pytest

from weightgen.data.meta_vqa.templates import make_template
from weightgen.data.photos.knowledge import CLASSES, Meaning, load_knowledge
from weightgen.errors import InputError

KNOWLEDGE = load_knowledge()
MEANINGS = KNOWLEDGE.meanings()


def test_size():
    assert len(CLASSES) == len(set(CLASSES)) == 100 and list(CLASSES) == sorted(CLASSES)
    assert len(KNOWLEDGE.attributes) >= 60 and len(KNOWLEDGE.groups) >= 40 and len(MEANINGS) >= 500


def test_every_class_group_and_attribute_is_used():
    assert {
        name for meaning in MEANINGS for names in KNOWLEDGE.answers(meaning).values() for name in names
    } == set(CLASSES)
    assert {meaning.attribute for meaning in MEANINGS} == set(KNOWLEDGE.attributes)
    assert {meaning.group for meaning in MEANINGS} == set(KNOWLEDGE.groups)


def test_every_meaning_is_a_task():
    for meaning in MEANINGS:
        answers = KNOWLEDGE.answers(meaning)
        known = sum(map(len, answers.values()))
        assert 2 <= len(answers) <= 10 and known >= 3
        assert 2 * known >= len(KNOWLEDGE.groups[meaning.group].classes)
        assert len(KNOWLEDGE.questions(meaning)) >= 3


def test_words_tell_the_meaning():
    counts = Counter(question for meaning in MEANINGS for question in KNOWLEDGE.questions(meaning))
    assert [question for question, count in counts.items() if count > 1] == []


def test_yes_no_attributes_say_so():
    for attribute in KNOWLEDGE.attributes.values():
        assert set(attribute.answers) == {"yes", "no"} or not {"yes", "no"} & set(attribute.answers)


def test_hardly_a_question_falls_back_to_its_own_words():
    questions = [question for meaning in MEANINGS for question in KNOWLEDGE.questions(meaning)]
    fallen = [question for question in questions if make_template(question).startswith("the answer to")]
    assert len(fallen) < len(questions) / 500


@pytest.mark.parametrize(
    ("meaning", "answer", "names"),
    [
        (Meaning("covering", "animal"), "fur", {"lion", "rabbit"}),
        (Meaning("has_wheels", "vehicle"), "yes", {"bus", "bicycle"}),
        (Meaning("legs", "animal"), "eight", {"spider"}),
        (Meaning("room", "furniture"), "bedroom", {"bed", "wardrobe"}),
    ],
)
def test_some_facts(meaning, answer, names):
    assert names <= set(KNOWLEDGE.answers(meaning)[answer])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda table: table["groups"]["tree"].update(classes="oak_tree birch"),
            "class 'birch' is not one of",
        ),
        (
            lambda table: table["attributes"]["fur"]["answers"].update(no="lion"),
            "class 'lion' is named 2 times",
        ),
        (lambda table: table["attributes"]["fur"]["answers"].pop("no"), "has 1 answers; expected at least 2"),
        (lambda table: table["attributes"]["fur"].update(questions=["Fur?"]), "expected one {g} and a final"),
        (lambda table: table["groups"]["tree"].update(nouns=[]), "group 'tree' has no noun"),
        (lambda table: table.pop("groups"), "expected a table of groups and attributes"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path, change, told):
    table = {
        "groups": {"tree": {"nouns": ["tree"], "classes": "oak_tree pine_tree"}},
        "attributes": {
            "fur": {"questions": ["Has the {g} fur?"], "answers": {"yes": "lion", "no": "oak_tree"}}
        },
    }
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    load_knowledge(path)
    change(table)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(table))
    with pytest.raises(InputError, match=told) as caught:
        load_knowledge(wrong)
    assert "\n" not in str(caught.value)
