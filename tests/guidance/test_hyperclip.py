import pytest
import torch

from weightgen import InputError
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.guidance import HyperCLIPGuidance
from weightgen.priors import GaussianPrior

Z, P, E = 4, 12, 5


class Linear(torch.nn.Module):
    latent_dim = Z

    def __init__(self) -> None:
        super().__init__()
        self.map = torch.nn.Linear(Z, P).double()

    def forward(self, latents):
        return self.map(latents)


@pytest.fixture
def parts():
    torch.manual_seed(0)
    prior = GaussianPrior(torch.randn(Z).double(), std=0.0)
    return prior, Linear(), HyperCLIP(P, E, hidden_dims=(6,)).double()


@pytest.mark.parametrize("squared", [False, True])
def test_equals_a_loop_over_tasks(parts, squared):
    prior, hypernet, encoder = parts
    embeds = torch.randn(3, E).double()
    guidance = HyperCLIPGuidance(*parts, steps=4, lr=0.7, weight=0.2, squared=squared)
    reached = guidance.sample(embeds)
    for b in range(3):
        latent = prior.mean.clone()
        for _ in range(4):
            latent.requires_grad_()
            cosine = torch.cosine_similarity(encoder(hypernet(latent)), embeds[b], dim=0)
            away = (latent - prior.mean).square().sum()
            penalty = 0.1 * away if squared else 0.2 * away.sqrt() if away > 0 else 0.0
            (slope,) = torch.autograd.grad(penalty - cosine, latent)
            latent = (latent - 0.7 * slope).detach()
        assert torch.allclose(reached[b], latent, rtol=0, atol=1e-9)


def test_walks_towards_the_question_and_the_weight_holds_it_back(parts):
    prior, hypernet, encoder = parts
    embeds = torch.randn(8, E).double()

    def walk(**settings):
        latents = HyperCLIPGuidance(*parts, lr=0.3, **settings).sample(embeds)
        likeness = encoder.similarity(hypernet(latents), embeds).diagonal()
        return likeness, (latents - prior.mean).norm(dim=1)

    before, nowhere = walk(steps=0)
    after, far = walk(steps=30, weight=0.0)
    _, near = walk(steps=30, weight=0.5)
    assert (after > before).all() and nowhere.eq(0).all() and (near < far).all()
    assert torch.isfinite(far).all()  # the norm has no slope where the walk starts


def test_gaussian_start_is_drawn_with_the_generator(parts):
    _, hypernet, encoder = parts
    guidance = HyperCLIPGuidance(GaussianPrior(torch.zeros(Z).double()), hypernet, encoder)
    embeds = torch.randn(2, E).double()
    one, again, other = (
        guidance.sample(embeds, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert one.equal(again) and not one.equal(other)


def test_negative_settings_are_refused(parts):
    for settings in ({"steps": -1}, {"weight": -0.1}):
        with pytest.raises(InputError, match="must be a .*number from 0"):
            HyperCLIPGuidance(*parts, **settings)
