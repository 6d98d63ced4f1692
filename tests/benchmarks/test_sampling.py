"""Weights from questions, guided and decoded, in the size of Scenes."""

import pytest
import torch
from diffusers import DDPMScheduler

from tests.benchmarks import released
from tests.benchmarks.measure import DEVICE
from weightgen.guidance import ClassifierFreeGuidance
from weightgen.hypernets import HVAE
from weightgen.networks import CLIPAdapter
from weightgen.priors import DiffusionPrior, MLPDenoiser, paper_schedule
from weightgen.weights import FunctionalNetwork

QUESTIONS, SCALE, LATENT, EMBED = 373, 1.5, 96, 128


@pytest.mark.parametrize("steps", [5, 20])
def test_weights_for_all_questions(row, steps):
    network = FunctionalNetwork(CLIPAdapter(EMBED, 32))
    hvae = HVAE(network.space, LATENT, (256,)).to(DEVICE).eval()
    hvae.standardizer.fit(torch.randn(8, network.space.size, device=DEVICE))
    denoiser = MLPDenoiser(LATENT, EMBED, (384, 384, 384)).to(DEVICE).eval()
    embeds = torch.randn(QUESTIONS, EMBED, device=DEVICE)
    denoiser.embeds.fit(embeds)
    prior = DiffusionPrior(denoiser, paper_schedule()).to(DEVICE)
    prior.latents.fit(torch.randn(64, LATENT, device=DEVICE))
    ddpm = DDPMScheduler(350, beta_schedule="linear", beta_start=1e-4, beta_end=0.06, clip_sample=False)

    @torch.no_grad()
    def ours():
        guide = lambda inner: ClassifierFreeGuidance(inner, SCALE)  # noqa: E731
        return hvae(prior.sample(embeds, num_inference_steps=steps, guide=guide))

    @torch.no_grad()
    def one_question():
        return hvae(released.sample_latent(denoiser, ddpm, embeds[:1], SCALE))

    products = sum(2 * p.numel() for name, p in denoiser.named_parameters() if p.ndim == 2)
    decoding = sum(
        2 * p.numel() for part in (hvae.decoder, hvae.decoder_path) for p in part.parameters() if p.ndim == 2
    )
    row(
        f"weights for {QUESTIONS} questions, guided in {steps} steps of DDIM, decoded",
        ours,
        released=one_question,
        share=1 / QUESTIONS,
        flops=QUESTIONS * (2 * steps * products + decoding),
        aims=(1000, 0.6),
        rounds=7,
        note="random weights; on validation tasks of Scenes, 5 and 20 steps are as accurate as the 350 of the released procedure "
        "(results/scenes/tokens/figure_steps.json)",
    )
