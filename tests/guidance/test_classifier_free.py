import pytest
import torch
from torch import nn
from torch.testing import assert_close

from weightgen.guidance import ClassifierFreeGuidance
from weightgen.priors import MLPDenoiser, null_embeds

B, Z, E = 5, 6, 4


class Counting(nn.Module):
    """A denoiser that keeps what it was asked."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.asked = denoiser, []

    def forward(self, latents, times, embeds):
        self.asked.append((latents, times, embeds))
        return self.denoiser(latents, times, embeds)


@pytest.fixture
def denoiser():
    inner = MLPDenoiser(latent_dim=Z, embed_dim=E, hidden_dims=(16, 16), time_dim=8).eval()
    inner.embeds.fit(3 + torch.randn(50, E))
    return Counting(inner).requires_grad_(False)


@pytest.fixture
def noisy():
    return torch.randn(B, Z), torch.randint(350, (B,)), 3 + torch.randn(B, E)


def branches(denoiser, noisy):
    latents, times, embeds = noisy
    found = denoiser.denoiser(latents, times, torch.zeros_like(embeds)), denoiser.denoiser(*noisy)
    assert not torch.allclose(*found, atol=1e-2)  # otherwise nothing below would say anything
    return found


def test_scale_zero_is_unconditional_and_one_is_conditional(denoiser, noisy):
    unconditional, conditional = branches(denoiser, noisy)
    assert torch.equal(ClassifierFreeGuidance(denoiser, 0.0)(*noisy), unconditional)
    assert torch.equal(ClassifierFreeGuidance(denoiser, 1.0)(*noisy), conditional)
    assert len(denoiser.asked) == 2 and all(len(latents) == B for latents, _, _ in denoiser.asked)


@pytest.mark.parametrize("scale", [-1.0, 0.3, 1.5, 7.0])
def test_both_equations(denoiser, noisy, scale):
    unconditional, conditional = branches(denoiser, noisy)
    guided = ClassifierFreeGuidance(denoiser, scale)(*noisy)
    assert_close(
        guided, (1 - scale) * unconditional + scale * conditional, atol=1e-5, rtol=1e-5
    )  # the paper's
    w = scale - 1  # Ho & Salimans
    assert_close(guided, (1 + w) * conditional - w * unconditional, atol=1e-5, rtol=1e-5)


def test_linear_in_the_scale(denoiser, noisy):
    at = {s: ClassifierFreeGuidance(denoiser, s)(*noisy) for s in (0.0, 0.5, 1.0, 2.0, 4.0)}
    for s in (0.5, 2.0, 4.0):  # the shortcuts at 0 and 1 lie on the same line
        assert_close(at[s], at[0.0] + s * (at[1.0] - at[0.0]), atol=1e-5, rtol=1e-5)


def test_one_forward_for_both_branches(denoiser, noisy):
    ClassifierFreeGuidance(denoiser, 1.5)(*noisy)
    ((latents, times, embeds),) = denoiser.asked
    assert torch.equal(latents, noisy[0].repeat(2, 1)) and torch.equal(times, noisy[1].repeat(2))
    assert (embeds[:B] == 0).all() and torch.equal(embeds[B:], noisy[2])


def test_each_row_has_its_own_time_and_embedding(denoiser, noisy):
    guided = ClassifierFreeGuidance(denoiser, 2.0)
    alone = [guided(*(part[i : i + 1] for part in noisy)) for i in range(B)]
    assert_close(guided(*noisy), torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_without_an_embedding_every_scale_is_unconditional(denoiser, noisy):
    latents, times, embeds = noisy
    unconditional, _ = branches(denoiser, noisy)
    for scale in (0.0, 1.0, 3.0):
        guided = ClassifierFreeGuidance(denoiser, scale)(latents, times, null_embeds(embeds))
        assert_close(guided, unconditional, atol=1e-5, rtol=1e-5)


def test_what_is_guided_can_be_guided_again(denoiser, noisy):
    unconditional, conditional = branches(denoiser, noisy)
    twice = ClassifierFreeGuidance(ClassifierFreeGuidance(denoiser, 2.0), 1.5)(*noisy)
    expected = unconditional + 3.0 * (conditional - unconditional)
    assert_close(twice, expected, atol=1e-5, rtol=1e-5)
