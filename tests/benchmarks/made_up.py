"""Random tasks in the sizes of Meta-VQA."""

from statistics import NormalDist

import torch

from tests.benchmarks.measure import DEVICE
from weightgen.tasks import Examples, TaskBatch

PAPER = (768, 256)  # E and H of the paper's adapter: P = 394,240


def quantiles(count, median, spread, least, most):
    """Of a log-normal distribution, in an order without a pattern."""
    normal = NormalDist(0, spread)
    places = [(number * 0.618034) % 1 for number in range(1, count + 1)]
    return [
        round(min(max(median * torch.tensor(normal.inv_cdf(place)).exp().item(), least), most))
        for place in places
    ]


def meta_vqa_tasks(count, embed_dim=PAPER[0]):
    """Tasks whose support sets have the median and mean of Meta-VQA's (29 and 59; 12 to 1,242), with answers likewise (7 and 9.4)."""
    draw = torch.Generator().manual_seed(0)
    supports = quantiles(count, 29, 1.19, 12, 1242)
    answers = quantiles(count, 7, 0.77, 2, 203)

    def part(size, classes):
        inputs = torch.randn(size, embed_dim, generator=draw).to(DEVICE)
        return Examples(inputs, torch.randint(classes, (size,), generator=draw).to(DEVICE))

    tasks = []
    for size, classes in zip(supports, answers, strict=True):
        mask = torch.ones(classes, dtype=torch.bool, device=DEVICE)
        context = {
            "answers": torch.randn(classes, embed_dim, generator=draw).to(DEVICE),
            "answer_mask": mask,
        }
        sets = part(size, classes), part(round(size * 0.45), classes)
        tasks.append(TaskBatch(*sets, torch.zeros(embed_dim, device=DEVICE), context))
    return tasks


def products_of_a_step(tasks, embed_dim=PAPER[0], hidden_dim=PAPER[1]):
    """Floating-point operations of one gradient step on all tasks: two products forward, three backward."""
    return sum(10 * len(task.support.labels) * embed_dim * hidden_dim for task in tasks)
