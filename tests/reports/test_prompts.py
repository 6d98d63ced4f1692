"""The nearest known question, and answers on a command line."""

import pytest
import torch
from datasets import Dataset

from weightgen import InputError
from weightgen.pipelines.familiarity import Familiarity
from weightgen.pipelines.known_questions import nearest_task
from weightgen.reports.prompts import given_answers


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


def test_topics_count_more_than_objects_where_they_are_known():
    """Embeddings say mostly which object is asked about, and a little which topic; a fitted Familiarity turns that round."""
    objects, topics = torch.eye(6), torch.eye(3)
    embeds = {
        f"what {topic} is {thing}?": torch.cat([3 * objects[j], topics[i]])
        for i, topic in enumerate(("color", "shape", "size"))
        for j, thing in enumerate("abcdef")
    }
    asked = "what color is a?"
    others = {question: x for question, x in embeds.items() if question != asked}

    class Known(Store):
        def embeds(self, kind, numbers):
            return torch.stack([others[name] for name in self.names])

    class Eye:
        encode_questions = staticmethod(lambda texts: torch.stack([embeds[text] for text in texts]))

    splits = {"test": rows(*reversed(others))}
    topic_of = [question.split()[1] for question in others]
    familiarity = Familiarity.fitted(torch.stack(list(others.values())), topic_of)
    assert "color" not in nearest_task(asked, splits, Known(), Eye())["question"]
    assert "color" in nearest_task(asked, splits, Known(), Eye(), familiarity)["question"]


def test_answers():
    assert given_answers(None, "is it?") is None
    assert given_answers("red, green", "is it?", SPLITS) == ["red", "green"]
    assert given_answers("yes,perhaps", "what shape is it?", SPLITS) == ["yes", "perhaps"]
    with pytest.raises(InputError, match="has the answers no, yes; got red, green"):
        given_answers("red,green", "what shape is it?", SPLITS)
    with pytest.raises(InputError, match="two answers or more"):
        given_answers("red", "what shape is it?")
