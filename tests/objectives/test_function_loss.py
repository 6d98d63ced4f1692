"""A score of the user's own in place of the loss on tasks."""

import pytest
import torch

from weightgen import HVAE, DiffusionPrior, FunctionalNetwork, InputError, MLPDenoiser
from weightgen.networks import MLP
from weightgen.objectives import ELBOLoss, LatentDiffusionLoss
from weightgen.priors import paper_schedule

GOALS = torch.tensor([1.0, -1.0, 3.0])


def score(weights, tasks):
    return (weights.mean(dim=-1) - GOALS[tasks]).square()


@pytest.fixture
def parts():
    torch.manual_seed(0)
    network = FunctionalNetwork(MLP(2, [3], 2))
    hvae = HVAE(network.space, latent_dim=2, hidden_dims=(4,)).fit(torch.randn(20, network.space.size))
    return network, hvae, torch.randn(3, network.space.size), torch.tensor([2, 0, 1])


def test_the_autoencoder_learns_from_a_score(parts):
    network, hvae, weights, tasks = parts
    losses = []
    for batch, weight in (((weights, None), 5.0), ((weights, tasks), 5.0), ((weights, tasks), 0.0)):
        torch.manual_seed(1)
        losses.append(ELBOLoss(hvae, network, function_weight=weight, score=score)(batch))
    plain, scored, unweighed = losses
    torch.manual_seed(1)
    expected = score(hvae(hvae.encode(weights).rsample()), tasks).mean()
    torch.testing.assert_close(scored.loss, plain.loss + 5 * expected)
    torch.testing.assert_close(scored.metrics["score"], expected.detach())
    assert unweighed.loss == plain.loss and "score" not in plain.metrics


def test_diffusion_learns_from_a_score(parts):
    network, hvae, weights, tasks = parts
    denoiser = MLPDenoiser(latent_dim=2, embed_dim=4, hidden_dims=(8,), time_dim=4)
    prior = DiffusionPrior(denoiser, paper_schedule("sample"))
    latents, embeds = torch.randn(5, 2), torch.randn(5, 4)
    denoiser.embeds.fit(embeds)
    prior.latents.fit(latents)
    objective = LatentDiffusionLoss(denoiser, prior, hvae, network, function_weight=2.0, score=score)
    torch.manual_seed(1)
    found = objective((latents, embeds, tasks))
    torch.manual_seed(1)
    plain = objective((latents, embeds, None))
    torch.testing.assert_close(found.loss, plain.loss + 2 * found.metrics["score"])
    found.loss.backward()
    assert all(parameter.grad is not None for parameter in hvae.decoder_parameters())


def test_one_loss_for_all_is_refused(parts):
    network, hvae, weights, tasks = parts
    objective = ELBOLoss(hvae, network, function_weight=1.0, score=lambda w, t: w.mean())
    with pytest.raises(InputError, match="returns \\(\\) for 3 weight vectors: expected one loss for each"):
        objective((weights, tasks))
