"""ELBO: every term by hand."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from weightgen.hypernets import HVAE
from weightgen.networks.clip_adapter import CLIPAdapter
from weightgen.objectives import ELBOLoss
from weightgen.tasks import Examples, TaskBatch, collate
from weightgen.weights import FunctionalNetwork

E, Z, B = 5, 3, 3


def draw(support, query, classes):
    parts = (Examples(torch.randn(n, E), torch.randint(classes, (n,))) for n in (support, query))
    context = {"answers": torch.randn(classes, E), "answer_mask": torch.ones(classes).bool()}
    return TaskBatch(*parts, embeds=torch.randn(E), context=context)


TASKS = [(4, 6, 3), (9, 2, 2), (3, 3, 5)]


@pytest.fixture
def tasks():
    return [draw(*size) for size in TASKS]


@pytest.fixture
def network():
    return FunctionalNetwork(CLIPAdapter(E, hidden_dim=2, logit_scale=5.0, init="authors"))


@pytest.fixture
def hvae(network):
    # Without linear paths, the spread of the posterior depends on the weights.
    space = network.space
    return HVAE(space, Z, (16, 8), linear=False).fit(2 + 3 * torch.randn(30, space.size))


def by_hand(hvae, weights):
    """Squared error, KL divergence (means over tasks) and the decoded weights; draws the noise that the loss draws."""
    mean, std = hvae.standardizer.mean, hvae.standardizer.std
    squared, divergence, decoded = [], [], []
    noise = torch.randn(len(weights), Z)
    for w, eps in zip(weights, noise, strict=True):
        out = hvae.encoder((w - mean) / std)
        mu, log_variance = out[:Z], out[Z:] - 1  # the released code's shift
        divergence.append(0.5 * (mu**2 + log_variance.exp() - 1 - log_variance).sum())
        scaled = hvae.decoder(mu + eps * torch.exp(log_variance / 2))
        squared.append((((w - mean) / std - scaled) ** 2).sum())
        decoded.append(scaled * std + mean)
    return sum(squared) / len(weights), sum(divergence) / len(weights), torch.stack(decoded)


def task_losses(network, decoded, tasks):
    losses, right = [], []
    for w, task in zip(decoded, tasks, strict=True):
        inputs = torch.cat([task.support.inputs, task.query.inputs])
        labels = torch.cat([task.support.labels, task.query.labels])
        logits = network.single(w, inputs, task.context["answers"])
        losses.append(cross_entropy(logits, labels))
        right.append((logits.argmax(dim=1) == labels).float().mean())
    return sum(losses) / len(losses), sum(right) / len(right)


@pytest.mark.parametrize("kl_weight", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("function_weight", [0.0, 2.0])
def test_loss_and_gradients_by_hand(hvae, network, tasks, kl_weight, function_weight):
    weights, size = 2 + 3 * torch.randn(B, hvae.space.size), hvae.space.size
    objective = ELBOLoss(hvae, network, kl_weight, function_weight)
    torch.manual_seed(7)
    outcome = objective((weights, collate(tasks)))
    ours = torch.autograd.grad(outcome.loss, list(hvae.parameters()))

    torch.manual_seed(7)
    squared, divergence, decoded = by_hand(hvae, weights)
    task, right = task_losses(network, decoded, tasks)
    loss = (squared + kl_weight * divergence) / math.sqrt(size) + function_weight * task
    assert_close(outcome.loss, loss)
    assert_close(outcome.metrics["loss"], loss.detach())
    assert_close(outcome.metrics["squared_error"], squared.detach() / size)
    assert_close(outcome.metrics["kl"], divergence.detach())
    assert ("task_loss" in outcome.metrics) == bool(function_weight)
    if function_weight:
        assert_close(outcome.metrics["task_loss"], task.detach())
        assert_close(outcome.metrics["accuracy"], right)
    assert not any(metric.requires_grad for metric in outcome.metrics.values())
    for one, other in zip(ours, torch.autograd.grad(loss, list(hvae.parameters())), strict=True):
        assert other.any()
        assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_noise_is_drawn_for_every_row_and_every_step(hvae, network, tasks):
    row = torch.randn(hvae.space.size)
    objective, heard = ELBOLoss(hvae, network), []
    hvae.decoder.register_forward_hook(lambda module, inputs, output: heard.append(inputs[0]))
    for _ in range(2):
        objective((row.expand(B, -1), collate(tasks)))
    latents = torch.cat(heard)
    assert len(latents.unique(dim=0)) == len(latents) == 2 * B


def test_an_autoencoder_of_principal_components_starts_without_error(network, tasks):
    """On a plane of Z directions only the posterior's spread and its prior cost anything."""
    space = network.space
    weights = 5 + torch.randn(100, Z) @ torch.randn(Z, space.size)
    hvae = HVAE(space, Z, (16,)).fit(weights)
    hvae.encoder[-1].bias.data[Z:] = -40.0  # hardly any noise
    outcome = ELBOLoss(hvae, network, kl_weight=0.0)((weights[:B], collate(tasks)))
    assert outcome.metrics["squared_error"] < 1e-8


def test_the_base_network_is_not_trained(hvae, network, tasks):
    objective = ELBOLoss(hvae, network, function_weight=1.0)
    assert {name.split(".")[0] for name, _ in objective.named_parameters()} == {"hvae"}
    objective((torch.randn(B, hvae.space.size), collate(tasks))).loss.backward()
    assert all(p.grad is None for p in network.module.parameters())
