"""What people call a pipeline with: it works, or one line says what to write instead."""

import warnings

import numpy as np
import pytest
import torch

from tests.tiny import E, tiny_pipeline
from tests.towers import tiny_paired
from weightgen import InputError
from weightgen.encoders.alike import cut_texts, refuse_alike

STAR, COLORS = "What color is the star?", ["red", "green"]
FEW = {"num_inference_steps": 3}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"generator": 42}, r"got 42: write torch.Generator\(\).manual_seed\(42\)"),
        ({"generator": [42]}, "must be a torch.Generator"),
        ({"answers": [1, 2]}, "answers must be texts, got 1: write '1'"),
        ({"answers": [["red", 2]]}, "got 2: write '2'"),
        ({"answers": {"red", "green"}}, r"a set has no order: write \['green', 'red'\]"),
        ({"answers": [{"red", "green"}]}, "a set has no order"),
        ({"answers": {"red": 1, "green": 2}}, "must be a list of texts"),
        ({"answers": 3}, "must be a list of texts, got 3"),
        ({"answers": ["red", "Red"]}, "not by capitals or spaces alone, got 'red' and 'Red'"),
        ({"answers": ["red", " red"]}, "by spaces alone"),
        ({"answers": ["violet", "pink"]}, "'violet' and 'pink' as the same, for example as unknown words"),
        ({"answers": ["red", "gre\udcffen"]}, "is no valid text"),
        ({"prompt": "what \ud800 is it?"}, "is no valid text"),
        ({"prompt": {STAR}}, "a set has no order"),
        ({"prompt": b"what?"}, "must be a list of texts"),
        ({"template": "{} \udcff"}, "is no valid text"),
        ({"num_samples": 2.5}, "num_samples must be a whole number, got 2.5"),
        ({"num_samples": True}, "num_samples must be a whole number"),
        ({"num_inference_steps": "20"}, "num_inference_steps must be a whole number, got '20'"),
        ({"guidance_scale": "1"}, "guidance_scale must be a finite number"),
        ({"temperature": None}, "temperature must be a finite number"),
        ({"guidance_scale": 1e38}, "infinite: give a smaller|not finite: lower"),
        ({"guidance_scale": 1e30}, "infinite: give a smaller|not finite: lower"),
    ],
)
def test_wrong_arguments(pipe, call, message):
    call = {"prompt": STAR, "answers": COLORS, **FEW, **call}
    with pytest.raises(InputError, match=message) as caught:
        pipe(**call)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("embeds", "message"),
    [
        (torch.ones(E), rf"must have shape \(B, {E}\), got \({E},\)"),
        (torch.ones(2, E + 1), "must have shape"),
        (torch.stack([torch.ones(E), torch.full((E,), torch.nan)]), "must be finite, but row 1 is not"),
        (torch.full((1, E), torch.inf), "row 0 is not"),
    ],
)
def test_wrong_embeddings(pipe, embeds, message):
    with pytest.raises(InputError, match=message):
        pipe(prompt_embeds=embeds, **FEW)


def test_embeddings_of_every_type_give_the_same(pipe):
    embeds = torch.randint(1, 5, (2, E))
    expected = pipe(prompt_embeds=embeds.float(), generator=seeded(), **FEW).weights
    for other in (embeds, embeds.double(), embeds.half(), embeds.numpy(), embeds.double().numpy().tolist()):
        assert torch.equal(pipe(prompt_embeds=other, generator=seeded(), **FEW).weights, expected)


def test_answers_in_every_kind_of_list(pipe):
    expected = pipe(STAR, COLORS, generator=seeded(), **FEW)
    for other in (tuple(COLORS), np.array(COLORS), dict.fromkeys(COLORS).keys(), [COLORS]):
        found = pipe(STAR, other, generator=seeded(), **FEW)
        assert found.answers == expected.answers and torch.equal(found.weights, expected.weights)


def test_answers_behind_a_long_question_are_refused_and_the_limit_is_named(pipe):
    template = "what is the star and the moon and the star and the moon and {}"
    with pytest.raises(
        InputError, match="reads 12 tokens of an answer.*'red' and 'green' are the same.*template="
    ):
        pipe(STAR, COLORS, template=template, **FEW)


def test_a_question_that_is_cut_is_told(pipe):
    with pytest.warns(UserWarning, match="reads 12 tokens of a question, and not the end of 'what color is"):
        pipe("what color is " + "the star " * 9, COLORS, template="{}", **FEW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe(STAR, COLORS, **FEW)


def test_an_encoder_without_a_tokenizer_is_asked_for_embeddings(tmp_path):
    encoder = tiny_paired(tmp_path)
    assert not hasattr(encoder, "tokenize") and encoder.max_tokens == 12
    refuse_alike(encoder, COLORS, COLORS)
    with pytest.raises(InputError, match="capitals"):
        refuse_alike(encoder, ["red", "Red"], ["red", "Red"])
    long = "what color is the star " * 3
    assert cut_texts(encoder, ["what color is the star ?", long, "red"]) == [long]


class Cased:
    """Reads capitals, and has no tokenizer."""

    def encode_texts(self, texts):
        return torch.tensor([[float(sum(map(ord, text)))] for text in texts])


def test_an_encoder_that_reads_capitals_may_have_answers_that_differ_by_them():
    refuse_alike(Cased(), ["US", "us"], ["US", "us"])
