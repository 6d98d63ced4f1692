"""The nearest known question, and answers on a command line."""

import pytest
import torch
from datasets import Dataset

from weightgen import InputError
from weightgen.reports.prompts import given_answers, nearest_task


def rows(*questions):
    columns = {"template": "{}", "answers": ["yes", "no"], "query_images": ["a"], "query_labels": [0]}
    return Dataset.from_list([{"question": question, **columns} for question in questions])


SPLITS = {"train": rows("what color is it?"), "test": rows("what shape is it?")}


def embedded(texts):
    return torch.tensor([[1.0, float("color" in text)] for text in texts])


class Store:
    def rows(self, kind, names):
        self.names = names
        return torch.arange(len(names))

    def embeds(self, kind, numbers):
        return embedded(self.names).half()


class Encoder:
    encode_questions = staticmethod(embedded)


@pytest.mark.parametrize(
    ("prompt", "nearest"),
    [
        ("what color is it?", "what color is it?"),
        ("which color has it?", "what color is it?"),
        ("which form has it?", "what shape is it?"),
    ],
)
def test_the_nearest_task(prompt, nearest):
    assert nearest_task(prompt, SPLITS, Store(), Encoder())["question"] == nearest


def test_answers():
    assert given_answers(None, "is it?") is None
    assert given_answers("red, green", "is it?", SPLITS) == ["red", "green"]
    assert given_answers("yes,perhaps", "what shape is it?", SPLITS) == ["yes", "perhaps"]
    with pytest.raises(InputError, match="has the answers no, yes; got red, green"):
        given_answers("red,green", "what shape is it?", SPLITS)
    with pytest.raises(InputError, match="two answers or more"):
        given_answers("red", "what shape is it?")
