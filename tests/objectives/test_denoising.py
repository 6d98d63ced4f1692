"""Denoising: the target, the noise and the conditioning dropout of HyperLDM's loss."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import nn

from weightgen import InputError
from weightgen.objectives import DenoisingLoss
from weightgen.priors.denoiser import MLPDenoiser

Z, E, T = 3, 4, 350


def schedule(**options):
    options = {"num_train_timesteps": T, "beta_start": 1e-4, "beta_end": 0.06, "clip_sample": False} | options
    return DDPMScheduler(beta_schedule="linear", **options)


class Listener(nn.Module):
    """A denoiser that keeps what it was given and answers zeros."""

    def forward(self, latents, times, embeds):
        self.noisy, self.times, self.embeds = latents, times, embeds
        return torch.zeros_like(latents)


def listen(rows, **options):
    """One loss, with everything that went into it."""
    latents, embeds = torch.randn(rows, Z), torch.randn(rows, E)
    objective = DenoisingLoss(Listener(), schedule(**options))
    outcome = objective((latents, embeds))
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
    objective = DenoisingLoss(Listener(), schedule(), drop_rate=rate)
    objective((torch.randn(20_000, Z), embeds))
    dropped = (objective.denoiser.embeds == 0).all(dim=1)
    assert dropped.float().mean().item() == pytest.approx(rate, abs=0.015)
    assert torch.equal(objective.denoiser.embeds[~dropped], embeds[~dropped])  # all of a row, or nothing


def test_the_default_rate_is_the_released_codes():
    assert DenoisingLoss(Listener(), schedule()).drop_rate == 0.2


def test_a_perfect_denoiser_loses_nothing():
    class Oracle(nn.Module):
        def forward(self, latents, times, embeds):
            signal, noise = signal_and_noise(times)
            return (latents - signal * embeds[:, :Z]) / noise

    latents = torch.randn(500, Z)
    objective = DenoisingLoss(Oracle(), schedule(beta_start=1e-4), drop_rate=0.0)
    assert objective((latents, torch.cat([latents, latents[:, :1]], dim=1))).loss < 1e-6
    assert objective((latents, torch.randn(500, E))).loss > 0.1


def test_one_direction_can_be_learned():
    torch.manual_seed(0)
    denoiser = MLPDenoiser(Z, E, hidden_dims=(32, 32), time_dim=8)
    embeds = torch.randn(256, E)
    denoiser.embeds.fit(embeds)
    objective = DenoisingLoss(denoiser, schedule(prediction_type="sample"), drop_rate=0.0)
    optimizer = torch.optim.Adam(objective.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        outcome = objective((embeds[:, :Z], embeds))  # the latent is a part of the embedding
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
        DenoisingLoss(Listener(), schedule(**{option: True}))


def test_an_unknown_target_is_refused():
    odd = DDIMScheduler.from_config(schedule().config, prediction_type="flow")
    with pytest.raises(InputError, match="'epsilon', 'sample', 'v_prediction'.*'flow'"):
        DenoisingLoss(Listener(), odd)
