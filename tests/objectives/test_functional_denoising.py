"""Functional denoising: both terms by hand, and what they train."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.testing import assert_close

from weightgen import InputError
from weightgen.hypernets import HVAE
from weightgen.networks.clip_adapter import CLIPAdapter
from weightgen.nn.standardizer import Standardizer
from weightgen.objectives import DenoisingLoss, FunctionalDenoisingLoss
from weightgen.tasks import Examples, TaskBatch, collate
from weightgen.weights import WeightSpace

E, Z, ROWS = 5, 3, 7


class Guess(nn.Module):
    """A denoiser that knows neither latents nor time: one guess for all, and it is learned."""

    def __init__(self):
        super().__init__()
        self.guess = nn.Parameter(torch.randn(Z))

    def forward(self, latents, times, embeds):
        return self.guess.expand_as(latents)


def draw(support, query, classes):
    parts = (Examples(torch.randn(n, E), torch.randint(classes, (n,))) for n in (support, query))
    context = {"answers": torch.randn(classes, E), "answer_mask": torch.ones(classes).bool()}
    return TaskBatch(*parts, embeds=torch.randn(E), context=context)


@pytest.fixture
def tasks():
    return [draw(4, 6, 3), draw(9, 2, 2), draw(3, 3, 5)]


@pytest.fixture
def network():
    return CLIPAdapter(E, hidden_dim=2, logit_scale=5.0, init="authors")


def make(network, weight=0.5, kind="sample"):
    space = WeightSpace.of(network)
    hvae = HVAE(space, Z, (8,)).fit(torch.randn(30, space.size))
    latents = Standardizer(Z)
    latents.fit(2 + 3 * torch.randn(30, Z))
    schedule = DDIMScheduler(num_train_timesteps=20, clip_sample=False, prediction_type=kind)
    return FunctionalDenoisingLoss(DenoisingLoss(Guess(), schedule), latents, hvae, network, weight)


def test_both_terms_by_hand(network, tasks):
    objective = make(network)
    latents = torch.randn(ROWS, Z)
    outcome = objective((latents, torch.randn(ROWS, E), collate(tasks)))
    guess = objective.denoising.denoiser.guess
    denoising = mse_loss(guess.expand_as(latents), latents)
    weights = objective.hypernet(guess * objective.latents.std + objective.latents.mean)
    losses = []
    for task in tasks:
        inputs, labels = (torch.cat([a, b]) for a, b in zip(task.support, task.query, strict=True))
        logits = objective.hypernet.space.call(network, weights, inputs, **task.context)
        losses.append(cross_entropy(logits, labels))
    task_loss = sum(losses) / len(losses)
    assert_close(outcome.loss, denoising + 0.5 * task_loss)
    assert_close(outcome.metrics["loss"], denoising.detach())
    assert_close(outcome.metrics["task_loss"], task_loss.detach())


def test_the_decoder_learns_and_the_base_network_does_not(network, tasks):
    objective = make(network)
    objective((torch.randn(ROWS, Z), torch.randn(ROWS, E), collate(tasks))).loss.backward()
    reached = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
    assert "denoising.denoiser.guess" in reached
    assert {name for name in reached if name.startswith("hypernet")} == {
        name for name, _ in objective.named_parameters() if name.startswith("hypernet.decoder")
    }
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any("network" in name for name, _ in objective.named_parameters())


def test_only_the_first_rows_meet_their_tasks(network, tasks):
    torch.manual_seed(0)
    objective = make(network, kind="v_prediction")
    latents, embeds = torch.randn(ROWS, Z), torch.randn(ROWS, E)
    other = torch.cat([latents[: len(tasks)], latents[len(tasks) :] + 1])

    def task_loss(rows):
        torch.manual_seed(1)
        return objective((rows, embeds, collate(tasks))).metrics["task_loss"]

    assert_close(task_loss(latents), task_loss(other))
    assert not torch.isclose(task_loss(latents), task_loss(latents + 1))


def test_noise_is_not_what_weights_can_be_told_from(network):
    with pytest.raises(InputError, match="'sample' or 'v_prediction', got 'epsilon'.*function_weight=0"):
        make(network, kind="epsilon")
