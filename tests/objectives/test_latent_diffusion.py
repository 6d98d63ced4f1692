"""HyperLDM's loss: the target, the noise, conditioning dropout, and the loss on what the denoised weights do."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.testing import assert_close

from weightgen import InputError
from weightgen.hypernets import HVAE
from weightgen.networks.clip_adapter import CLIPAdapter
from weightgen.objectives import LatentDiffusionLoss
from weightgen.priors import DiffusionPrior
from weightgen.priors.denoiser import MLPDenoiser
from weightgen.tasks import Examples, TaskBatch, collate
from weightgen.weights import FunctionalNetwork

Z, E, T = 3, 4, 350


def schedule(**options):
    options = {"num_train_timesteps": T, "beta_start": 1e-4, "beta_end": 0.06, "clip_sample": False} | options
    return DDPMScheduler(beta_schedule="linear", **options)


class Listener(nn.Module):
    """A denoiser that keeps what it was given and answers zeros."""

    latent_dim, part_dims = Z, (E,)

    def forward(self, latents, times, embeds):
        self.noisy, self.times, self.embeds = latents, times, embeds
        return torch.zeros_like(latents)


def make(denoiser, scheduler=None, mean=0.0, std=1.0, **options):
    """The loss with latents that are standardised by a given mean and deviation."""
    network = FunctionalNetwork(CLIPAdapter(E, hidden_dim=2, logit_scale=5.0, init="authors"))
    hypernet = HVAE(network.space, Z, (8,)).fit(torch.randn(30, network.space.size))
    prior = DiffusionPrior(denoiser, scheduler or schedule())
    prior.latents.mean.fill_(mean)
    prior.latents.std.fill_(std)
    prior.latents.count.fill_(9)
    return LatentDiffusionLoss(denoiser, prior, hypernet, network, **options)


def listen(rows, **options):
    """One loss, with everything that went into it."""
    latents, embeds = torch.randn(rows, Z), torch.randn(rows, E)
    objective = make(Listener(), schedule(**options), mean=2.0, std=3.0)
    outcome = objective((2 + 3 * latents, embeds, None))
    return objective.denoiser, latents, embeds, outcome


def signal_and_noise(times):
    """√ᾱ and √(1 − ᾱ) of a linear β, from the definition."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.06, T, dtype=torch.float64), dim=0)[times]
    return kept.sqrt()[:, None].float(), (1 - kept).sqrt()[:, None].float()


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_target_by_hand(kind):
    heard, latents, _, outcome = listen(64, prediction_type=kind)
    signal, noise = signal_and_noise(heard.times)
    drawn = (heard.noisy - signal * latents) / noise
    target = {"epsilon": drawn, "sample": latents, "v_prediction": signal * drawn - noise * latents}[kind]
    assert outcome.loss.item() == pytest.approx(target.square().mean().item(), rel=1e-3)
    assert outcome.metrics["loss"] == outcome.loss


def test_the_noise_is_standard_normal():
    heard, latents, _, _ = listen(20_000)
    signal, noise = signal_and_noise(heard.times)
    late = heard.times > 20  # early on hardly any noise is added, and dividing by it loses digits
    drawn = ((heard.noisy - signal * latents) / noise)[late]
    assert drawn.mean().abs() < 0.02 and (drawn.std() - 1).abs() < 0.02
    assert torch.corrcoef(torch.cat([drawn, latents[late]], dim=1).T).fill_diagonal_(0).abs().max() < 0.03


def test_all_times_are_drawn_alike():
    heard = listen(35_000)[0]
    often = torch.bincount(heard.times, minlength=T)
    assert len(often) == T and often.min() > 50 and often.max() < 160  # 100 ± 10 each


def test_every_row_has_a_time_of_its_own():
    assert len(listen(30)[0].times.unique()) > 20


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.7, 1.0])
def test_conditioning_dropout(rate):
    torch.manual_seed(1)
    embeds = torch.randn(20_000, E)
    objective = make(Listener(), drop_rate=rate)
    objective((torch.randn(20_000, Z), embeds, None))
    dropped = (objective.denoiser.embeds == 0).all(dim=1)
    assert dropped.float().mean().item() == pytest.approx(rate, abs=0.015)
    assert torch.equal(objective.denoiser.embeds[~dropped], embeds[~dropped])  # all of a row, or nothing


def test_the_default_rate_is_the_released_codes():
    assert make(Listener()).drop_rate == 0.2


def test_a_perfect_denoiser_loses_nothing():
    class Oracle(nn.Module):
        latent_dim, part_dims = Z, (E,)

        def forward(self, latents, times, embeds):
            signal, noise = signal_and_noise(times)
            return (latents - signal * embeds[:, :Z]) / noise

    latents = torch.randn(500, Z)
    objective = make(Oracle(), drop_rate=0.0)
    assert objective((latents, torch.cat([latents, latents[:, :1]], dim=1), None)).loss < 1e-6
    assert objective((latents, torch.randn(500, E), None)).loss > 0.1


def test_one_direction_can_be_learned():
    torch.manual_seed(0)
    denoiser = MLPDenoiser(Z, E, hidden_dims=(32, 32), time_dim=8)
    embeds = torch.randn(256, E)
    denoiser.embeds.fit(embeds)
    objective = make(denoiser, schedule(prediction_type="sample"), drop_rate=0.0)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        outcome = objective((embeds[:, :Z], embeds, None))  # the latent is a part of the embedding
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(outcome.loss.item())
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad.any(), name


@pytest.mark.parametrize("option", ["clip_sample", "thresholding"])
def test_clipping_is_refused(option):
    with pytest.raises(InputError, match=f"{option}=True.*{option}=False"):
        make(Listener(), schedule(**{option: True}))


def test_an_unknown_target_is_refused():
    odd = DDIMScheduler.from_config(schedule().config, prediction_type="flow")
    with pytest.raises(InputError, match="'epsilon', 'sample', 'v_prediction'.*'flow'"):
        make(Listener(), odd)


class Guess(nn.Module):
    """A denoiser that knows neither latents nor time: one learned guess for all."""

    latent_dim, part_dims = Z, (E,)

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


def functional(kind="sample", weight=0.5):
    return make(Guess(), schedule(prediction_type=kind), 2.0, 3.0, function_weight=weight)


def test_both_terms_by_hand(tasks):
    objective, latents = functional(), torch.randn(7, Z)
    outcome = objective((2 + 3 * latents, torch.randn(7, E), collate(tasks)))
    guess = objective.denoiser.guess
    denoising = mse_loss(guess.expand_as(latents), latents)
    weights = objective.hypernet(2 + 3 * guess)
    losses = []
    for task in tasks:
        inputs, labels = (torch.cat([a, b]) for a, b in zip(task.support, task.query, strict=True))
        logits = objective.network.single(weights, inputs, **task.context)
        losses.append(cross_entropy(logits, labels))
    task_loss = sum(losses) / len(losses)
    assert_close(outcome.loss, denoising + 0.5 * task_loss)
    assert_close(outcome.metrics["loss"], denoising.detach())
    assert_close(outcome.metrics["task_loss"], task_loss.detach())


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_decoder_learns_with_the_second_term_only(tasks, weight):
    objective = functional(weight=weight)
    objective((torch.randn(7, Z), torch.randn(7, E), collate(tasks))).loss.backward()
    reached = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
    decoder = {name for name, _ in objective.named_parameters() if name.startswith("hypernet.decoder")}
    assert decoder and reached == {"denoiser.guess"} | (decoder if weight else set())
    trained = {name for name, parameter in objective.named_parameters() if parameter.requires_grad}
    assert trained == reached
    assert all(parameter.grad is None for parameter in objective.network.module.parameters())
    assert not any("network" in name for name, _ in objective.named_parameters())


def test_only_the_first_rows_meet_their_tasks(tasks):
    torch.manual_seed(0)
    objective = functional(kind="v_prediction")
    latents, embeds = torch.randn(7, Z), torch.randn(7, E)
    other = torch.cat([latents[: len(tasks)], latents[len(tasks) :] + 1])

    def task_loss(rows):
        torch.manual_seed(1)
        return objective((rows, embeds, collate(tasks))).metrics["task_loss"]

    assert_close(task_loss(latents), task_loss(other))
    assert not torch.isclose(task_loss(latents), task_loss(latents + 1))


def test_noise_is_not_what_weights_can_be_told_from():
    with pytest.raises(InputError, match="'sample' or 'v_prediction', got 'epsilon'.*function_weight=0"):
        functional(kind="epsilon")
