"""Groups of tasks of like size. How support sets are drawn is tested with the objectives that draw them."""

import math

import torch

from weightgen import Examples
from weightgen.shots import like_sized


def test_groups_of_like_size_leave_padding_out():
    labels = torch.tensor([[-100, 3, 4, 5, 6], [7, -100, 8, -100, -100], [-100] * 5, [1, 2, -100, -100, 9]])
    examples = Examples(torch.arange(20.0).reshape(4, 5, 1), labels)
    found = like_sized(examples)
    assert [rows.tolist() for rows, _ in found] == [[2], [1, 3], [0]]
    for rows, part in found:
        for place, row in enumerate(rows.tolist()):
            kept, valid = part.labels[place] != -100, labels[row] != -100
            assert torch.equal(part.labels[place][kept], labels[row][valid])
            assert torch.equal(part.inputs[place][kept], examples.inputs[row][valid])
    assert [tuple(part.labels.shape) for _, part in found] == [(1, 1), (2, 3), (1, 4)]
    ((rows, whole),) = like_sized(examples, padding=math.inf)
    assert rows.tolist() == [2, 1, 3, 0] and whole.labels.shape == (4, 4)
