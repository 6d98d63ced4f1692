"""Tasks whose answers are texts that the network reads itself."""

import torch

from tests.recipes.small import save_data
from weightgen.data import load_tasks
from weightgen.data.statement_tasks import StatementTasks

WORDS = ["", "it", "is", "red", "green"]


def tokenize(texts):
    rows = [[WORDS.index(word) for word in text.split()] for text in texts]
    return torch.tensor([row + [0] * (6 - len(row)) for row in rows])


def test_statements_stand_for_the_answers(tmp_path):
    (plain,) = load_tasks(save_data(tmp_path / "data"), "train")
    tasks = StatementTasks(plain, tokenize)
    batch = tasks.batch([1, 0])
    assert set(batch.context) == {"tokens", "answer_mask"} and len(tasks) == 2
    assert torch.equal(batch.context["tokens"], torch.tensor([[[3], [4]]] * 2))
    assert torch.equal(batch.query.inputs, plain.batch([1, 0]).query.inputs)
    assert tasks.batch(examples=2).support.labels.shape == (2, 2)
    own = StatementTasks(plain, tokenize, template=None).batch()
    assert torch.equal(own.context["tokens"][0], torch.tensor([[1, 2, 3], [1, 2, 4]]))
