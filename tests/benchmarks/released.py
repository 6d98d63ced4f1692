"""The procedures of the authors' released code (github.com/elvisnava/hyperclip), rebuilt from their description; no line is theirs.

One task at a time. In every inner step an iterator over the task's examples is made anew, its samples are stacked one by one, each with a
copy of the answers' embeddings, and these are normalised again. Support and query loss and accuracy are computed before and after
adaptation, in training too. Latents are sampled for one question after the other, in all 350 steps, with two passes of the denoiser each.
"""

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset


class Samples(Dataset):
    """The examples of one task: (image features, embeddings of all answers, label)."""

    def __init__(self, examples, answers):
        self.examples, self.answers = examples, answers

    def __len__(self):
        return len(self.examples.labels)

    def __getitem__(self, row):
        return self.examples.inputs[row], self.answers, self.examples.labels[row]


def loss_and_accuracy(network, weights, examples, answers):
    """Of one set of examples, with the batch made anew."""
    losses, right = [], 0
    for inputs, answers_of_each, labels in DataLoader(Samples(examples, answers), batch_size=1024):
        normalised = answers_of_each / answers_of_each.norm(dim=-1, keepdim=True)
        logits = network.single(weights, inputs, answers=normalised[0])
        losses.append(cross_entropy(logits, labels, reduction="sum"))
        right += (logits.argmax(dim=-1) == labels).sum().item()
    return torch.stack(losses).sum() / len(examples.labels), right / len(examples.labels)


def adapt(network, task, start, steps, lr, decode=None, second_order=False, evaluations=True):
    """Gradient steps on one task, as the released code takes them; the adapted weights."""
    answers, point = task.context["answers"], start
    weights = (lambda point: point) if decode is None else decode

    def evaluate():
        with torch.no_grad():
            for part in (task.support, task.query):
                loss_and_accuracy(network, weights(point), part, answers)

    if evaluations:
        evaluate()
    for _ in range(steps):
        point = point if point.requires_grad else point.detach().requires_grad_()
        loss, _ = loss_and_accuracy(network, weights(point), task.support, answers)
        (slope,) = torch.autograd.grad(loss, point, create_graph=second_order)
        point = point - lr * slope
    if evaluations:
        evaluate()
    return weights(point)


def meta_gradient(network, tasks, start, steps, lr):
    """The second-order gradient of MAML over some tasks, added up one by one."""
    start = start.detach().requires_grad_()
    for task in tasks:
        weights = adapt(network, task, start, steps, lr, second_order=True)
        loss, _ = loss_and_accuracy(network, weights, task.query, task.context["answers"])
        loss.backward()
    return start.grad / len(tasks)


@torch.no_grad()
def sample_latent(denoiser, scheduler, embed, scale):
    """A latent (1, Z) for one question (1, E): DDPM with all its steps and two passes of batch size 1 in each."""
    scheduler.set_timesteps(scheduler.config.num_train_timesteps)
    latent = torch.randn(1, denoiser.latent_dim, device=embed.device)
    for time in scheduler.timesteps:
        times = time.expand(1).to(embed.device)
        unconditional = denoiser(latent, times, torch.zeros_like(embed))
        noise = unconditional + scale * (denoiser(latent, times, embed) - unconditional)
        latent = scheduler.step(noise, time, latent).prev_sample
    return latent
