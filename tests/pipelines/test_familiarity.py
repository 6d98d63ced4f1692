"""Familiarity of questions: the score, in a pipeline, and what the command line says."""

import pytest
import torch

from tests.tiny import tiny_pipeline
from weightgen import InputError, WeightPipeline
from weightgen.cli import main
from weightgen.pipelines.familiarity import Familiarity
from weightgen.storage import shipped

TOPICS = [f"topic {i // 4}" for i in range(40)]


def questions(topics, generator, noise=0.1, dim=24):
    centres = torch.randn(30, dim, generator=torch.Generator().manual_seed(1))
    numbers = torch.tensor([int(topic.split()[1]) for topic in topics])
    return centres[numbers] + noise * torch.randn(len(topics), dim, generator=generator)


def test_questions_of_known_topics_are_familiar_and_those_of_others_are_not():
    stream = torch.Generator().manual_seed(0)
    known = Familiarity.fitted(questions(TOPICS, stream), TOPICS)
    same = known(questions(["topic 3", "topic 8"], stream))
    other = known(questions(["topic 20", "topic 25", "topic 29"], stream))
    assert same.min() > 0.5 > other.max()


def test_meanings_say_the_topics():
    meanings = ["legs/animal", "legs/pet", "wheels/thing", "wheels/vehicle", "legs/bird", "wheels/toy"]
    topics = [f"topic {int(meaning.startswith('legs'))}" for meaning in meanings]
    embeds = questions(topics, torch.Generator().manual_seed(0))
    expected = Familiarity.fitted(embeds, [meaning.split("/")[0] for meaning in meanings])
    assert torch.equal(Familiarity.of(embeds, meanings)(embeds), expected(embeds))
    assert Familiarity.of(embeds, [""] * 6) is None
    assert Familiarity.of(embeds, list("abcdef")) is None  # nothing is asked twice
    assert Familiarity.of(embeds, ["a"] * 6) is None
    with pytest.raises(InputError, match="expected a topic for each of 6 questions"):
        Familiarity.fitted(embeds, ["a"] * 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    place = tmp_path_factory.mktemp("familiar")
    pipe = tiny_pipeline(place)
    asked = [
        f"what {what} is the {which}?"
        for what in ("color", "shape")
        for which in ("star", "moon", "red star")
    ]
    pipe.familiarity = Familiarity.fitted(pipe.encoder.encode_questions(asked), ["c"] * 3 + ["s"] * 3)
    pipe.familiarity.calibration.copy_(torch.tensor([40.0, 0.9]))
    pipe.save_pretrained(place / "model")
    return place / "model"


def test_where_topics_do_not_lie_apart_every_question_counts_as_known():
    stream = torch.Generator().manual_seed(0)
    everywhere, new = torch.randn(40, 24, generator=stream), torch.randn(5, 24, generator=stream)
    blind = Familiarity.fitted(everywhere, TOPICS)
    assert torch.equal(blind(new), torch.ones(5)) and torch.equal(blind(everywhere), torch.ones(40))
    assert blind.similarity(everywhere, everywhere).argmax(dim=1).tolist() == list(range(40))


def test_a_pipeline_keeps_it_and_says_it(model, tmp_path):
    pipe = WeightPipeline.from_pretrained(model)
    out = pipe(["what color is the star?", "red red red"], ["red", "green"])
    assert out.familiarity.shape == (2,) and out.familiarity[0] > 0.9 > out.familiarity[1]
    assert out.warning(0) is None and "unlike all questions" in out.warning(1)
    out.save(tmp_path / "x.safetensors", prompt=1)
    again = pipe.load_weights(tmp_path / "x.safetensors")
    assert torch.equal(again.familiarity, out.familiarity[1:]) and again.warning() == out.warning(1)


def test_a_pipeline_without_it_says_nothing(model):
    pipe = WeightPipeline.from_pretrained(model)
    pipe.familiarity = None
    out = pipe("red red red", ["red", "green"])
    assert out.familiarity is None and out.warning() is None
    assert "familiarity" not in pipe.description["parts"]


def test_the_command_line_warns(model, tmp_path, capsys):
    def said(prompt):
        words = ["--model", str(model), "--answers", "red,green", "--output", str(tmp_path / "x.safetensors")]
        main(["sample", prompt, *words])
        return capsys.readouterr().out

    assert "unlike" not in said("what color is the star?")
    assert (
        said("red red red")
        .splitlines()[-1]
        .startswith("'red red red' is unlike all questions of the training")
    )


def test_the_command_line_finds_what_comes_with_the_package(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shipped, "SHIPPED", model.parent)
    monkeypatch.chdir(tmp_path)
    words = ["--model", "model", "--answers", "red,green", "--output", "x.safetensors"]
    main(["sample", "what color is the star?", *words])
    main(["info", "model"])
    assert '"familiarity"' in capsys.readouterr().out
