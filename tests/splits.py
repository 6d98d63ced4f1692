"""A split of a few random, ragged tasks, for tests of scores."""

import torch

from weightgen.tasks import Examples, TaskBatch, collate

E = 6
SIZES = [(5, 4, 3), (9, 7, 4), (3, 1, 2), (6, 12, 5)]  # support, query, answers


class Split:
    """What scores need of a split of Meta-VQA."""

    def __init__(self):
        self.sizes = [support + query for support, query, _ in SIZES]
        self.rows = []
        for support, query, classes in SIZES:
            parts = (Examples(torch.randn(n, E), torch.randint(classes, (n,))) for n in (support, query))
            context = {"answers": torch.randn(classes, E), "answer_mask": torch.ones(classes).bool()}
            self.rows.append(TaskBatch(*parts, embeds=torch.randn(E), context=context))

    def __len__(self):
        return len(self.rows)

    @property
    def embeds(self):
        return self.batch().embeds

    def batch(self, rows=None):
        return collate([self.rows[row] for row in (range(len(self)) if rows is None else rows)])
