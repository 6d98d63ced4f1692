"""A pipeline without diffusion: a hypernetwork that reads questions, behind the same call and in the same saved form."""

import pytest
import torch

from tests.tiny import E, tiny_pipeline
from weightgen import FunctionalNetwork, HNet, InputError, WeightPipeline
from weightgen.networks import TokenAdapter
from weightgen.priors import PointPrior

STAR, MOON = "What color is the star?", "What shape is the moon?"
COLORS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    torch.manual_seed(0)
    diffusion = tiny_pipeline(tmp_path_factory.mktemp("tiny"))
    questions = torch.randn(20, E)
    hypernet = HNet(diffusion.space, E, hidden_dims=(8,)).fit(questions)
    return WeightPipeline(diffusion.encoder, PointPrior(E).fit(questions), hypernet, diffusion.network)


def test_the_weights_are_those_that_the_hypernetwork_writes_for_the_question(pipe):
    out = pipe([STAR, MOON], COLORS, num_samples=2, guidance_scale=1.0)
    embeds = pipe.encoder.encode_questions([STAR, MOON])
    assert torch.allclose(out.weights[:, 0], pipe.hypernet(embeds), atol=1e-5)
    assert torch.equal(out.weights[:, 0], out.weights[:, 1])
    assert not torch.allclose(out.weights[0], out.weights[1], atol=1e-3)


def test_guidance_moves_along_the_line_from_the_mean_question_to_the_question(pipe):
    middle, embeds = pipe.prior.latents.mean, pipe.encoder.encode_questions([STAR])
    for scale in (0.0, 0.5, 1.5):
        latents = pipe.sample(embeds, guidance_scale=scale)[1]
        assert torch.allclose(latents[0, 0], middle + scale * (embeds[0] - middle), atol=1e-5)


def test_it_is_saved_and_loaded_as_every_pipeline(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = WeightPipeline.from_pretrained(tmp_path / "pipe")
    assert isinstance(loaded.prior, PointPrior)
    assert torch.equal(loaded(STAR, COLORS).weights, pipe(STAR, COLORS).weights)


def test_a_network_on_image_tokens_does_not_go_with_an_encoder_without(pipe):
    network = FunctionalNetwork(TokenAdapter(E + 4 * 3, grid=2, token_dim=3, hidden_dim=4))
    hypernet = HNet(network.space, E, hidden_dims=(8,)).fit(torch.randn(20, E))
    with pytest.raises(InputError, match=f"takes features of {E + 12} numbers, but the encoder .* gives {E}"):
        WeightPipeline(pipe.encoder, pipe.prior, hypernet, network)


def test_it_has_no_scheduler(pipe):
    with pytest.raises(InputError, match="PointPrior samples without diffusion"):
        pipe.scheduler = None
    with pytest.raises(InputError, match="PointPrior samples without diffusion"):
        _ = pipe.scheduler


def test_a_callback_sees_its_one_step_and_may_change_the_latents(pipe):
    seen = []

    def callback(_, step, time, given):
        seen.append((step, time.item(), given["latents"].shape))
        return {"latents": torch.zeros_like(given["latents"])}

    latents = pipe.sample(pipe.encoder.encode_questions([STAR]), callback_on_step_end=callback)[1]
    assert seen == [(0, 0.0, (1, E))]
    assert torch.allclose(latents[0, 0], pipe.prior.latents.mean)


@pytest.mark.parametrize("words", [{"num_inference_steps": 0}, {"temperature": -1.0}])
def test_numbers_that_no_prior_takes_are_refused(pipe, words):
    with pytest.raises(InputError, match=next(iter(words))):
        pipe(STAR, COLORS, **words)
