"""Questions into statements."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weightgen.data.meta_vqa.templates import make_template, read_templates, templates_first
from weightgen.errors import InputError


@pytest.mark.parametrize(
    ("question", "template"),
    [
        ("What color is the cat?", "the cat is {}"),
        ("What color are the man's shoes?", "the man's shoes are {}"),
        ("What color is the stop sign?", "the stop sign is {}"),
        ("What color is the building?", "the building is {}"),
        ("What color is the cutting board?", "the cutting board is {}"),
        ("What color shirt is the man wearing?", "the man is wearing {} shirt"),
        ("How many people are there?", "there are {} people"),
        ("How many people are there in the photo?", "there are {} people in the photo"),
        ("How many cups are on the table?", "{} cups are on the table"),
        ("How many wheels does the bus have?", "the bus has {} wheels"),
        ("How many people do you see?", "you see {} people"),
        ("How old is the boy?", "the boy is {} years old"),
        ("What is the dog doing?", "the dog is {}"),
        ("What is the man wearing on his head?", "the man is wearing {} on his head"),
        ("What is the fence made out of?", "the fence is made out of {}"),
        ("What is on the table?", "{} is on the table"),
        ("What is this?", "this is {}"),
        ("Where is the cat?", "the cat is {}"),
        ("Where was this photo taken?", "this photo was taken {}"),
        ("Where is the light coming from?", "the light is coming from {}"),
        ("What time is it?", "it is {}"),
        ("What kind of cat is this?", "the kind of cat is {}"),
        ("What animal is this?", "this animal is {}"),
        ("What number is on the bus?", "the number on the bus is {}"),
        ("What sport is being played?", "the sport being played is {}"),
        ("What room are they in?", "they are in {}"),
        ("What does the sign say?", "the sign says {}"),
        ("Who took this picture?", "{} took this picture"),
        ("which way", 'the answer to "which way?" is {}'),
        ("", 'the answer to "?" is {}'),
        ("What {is} it?", 'the answer to "What (is) it?" is {}'),
    ],
)
def test_statement(question, template):
    assert make_template(question) == template


@given(st.text() | st.text(alphabet="what is the {}ing? ", max_size=60))
def test_exactly_one_place_for_the_answer(question):
    assert make_template(question).format("ANSWER").count("ANSWER") == question.count("ANSWER") + 1


def test_long_questions_take_no_time():
    assert make_template("what " + "is the cutting " * 20_000).endswith("is {}")


def test_most_of_the_authors_questions_have_a_rule(shared):
    released = json.loads(gzip.decompress((shared / "data" / "meta_vqa.json.gz").read_bytes()))
    questions = [*released["train"], *released["test"]]
    assert sum(make_template(question).startswith("the answer to") for question in questions) < 10
    theirs = {question: released["prompts"][question].lower().replace(" '", "'") for question in questions}
    # The others are readable variants: "the dog is {}" for "the dog is doing {}".
    assert sum(make_template(question).lower() == theirs[question] for question in questions) > 950


def test_a_file_wins(tmp_path):
    path = tmp_path / "templates.json"
    path.write_text('{"What is this?": "this here is {}"}')
    template_of = templates_first(read_templates(path))
    assert template_of("What is this?") == "this here is {}"
    assert template_of("What is that?") == "that is {}"


@pytest.mark.parametrize("wrong", ["no place", "{} and {}", "{0}", "{", "}", "{{}}", "{}}", 3, None])
def test_wrong_templates(wrong, tmp_path):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps({"What?": wrong}))
    with pytest.raises(InputError, match=r"template of 'What\?' must have exactly one \{\}"):
        read_templates(path)


def test_wrong_template_files(tmp_path):
    path = tmp_path / "templates.json"
    with pytest.raises(InputError, match="templates.json"):
        read_templates(path)
    path.write_text('["a {}"]')
    with pytest.raises(InputError, match="expected a JSON object"):
        read_templates(path)
