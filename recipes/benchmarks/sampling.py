"""Measure what guidance in one pass and few denoising steps save when weights are sampled.

    python recipes/benchmarks/sampling.py                  # writes results/bench/sampling.json and .md
    python recipes/benchmarks/sampling.py sizes=[scenes]   # without the paper's denoiser, which takes 3 GB

Networks and data are random, in the sizes of Scenes and of the paper (Nava, Kobayashi et al., 2023: table 3). Both ways of a row are first
checked to give the same numbers, where they should; then they are timed in turns. A ratio holds for the machine that the report names.
Half a minute on one CPU thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from weightgen import training
from weightgen.guidance import ClassifierFreeGuidance
from weightgen.priors import DiffusionPrior, MLPDenoiser, null_embeds
from weightgen.reports.benchmark import BenchmarkConfig, run_benchmark
from weightgen.reports.timing import Pair


@dataclass
class Config(BenchmarkConfig):
    output: str = "results/bench/sampling"  # .json and .md are appended
    sizes: list[str] = field(default_factory=lambda: ["scenes", "paper"])


class Size(NamedTuple):
    latent_dim: int
    embed_dim: int
    denoiser: tuple[int, ...]
    steps: int  # of DDPM; 0 leaves the row out


SIZES = {
    "scenes": Size(96, 128, (384, 384, 384), 350),
    "paper": Size(32, 768, (8192, 16384, 8192), 0),
    "tiny": Size(4, 8, (16,), 30),
}
SAMPLES, SCALE = 4, 1.5


def sampling(size: Size, device: torch.device) -> Iterator[Pair]:
    """A guided step in one pass or two; and few steps against all."""
    denoiser = MLPDenoiser(size.latent_dim, size.embed_dim, size.denoiser).to(device).eval()
    latents, embeds = (torch.randn(SAMPLES, n, device=device) for n in (size.latent_dim, size.embed_dim))
    times = torch.full((SAMPLES,), 100, device=device)
    denoiser.embeds.fit(torch.randn(64, size.embed_dim, device=device))
    guided = ClassifierFreeGuidance(denoiser, SCALE)

    @torch.no_grad()
    def together() -> Tensor:
        return guided(latents, times, embeds)

    @torch.no_grad()
    def apart() -> Tensor:
        unconditional = denoiser(latents, times, null_embeds(embeds))
        return unconditional + SCALE * (denoiser(latents, times, embeds) - unconditional)

    million = sum(p.numel() for p in denoiser.parameters()) / 1e6
    kind = f"{SAMPLES} weight samples, denoiser of {million:.3g} M parameters"
    yield Pair(f"{kind}: a guided step", "one pass of 2 B", "two passes of B", together, apart)
    if size.steps:
        yield steps_pair(size, denoiser, embeds, kind)


def steps_pair(size: Size, denoiser: MLPDenoiser, embeds: Tensor, kind: str) -> Pair:
    """The default scheduler against the paper's."""
    betas = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.06, "clip_sample": False}

    def sampler(scheduler: type[DDIMScheduler] | type[DDPMScheduler], steps: int) -> Callable[[], Tensor]:
        prior = DiffusionPrior(denoiser, scheduler(num_train_timesteps=350, **betas)).to(embeds.device)
        prior.latents.fit(torch.randn(64, size.latent_dim, device=embeds.device))
        guide = lambda inner: ClassifierFreeGuidance(inner, SCALE)  # noqa: E731
        return lambda: prior.sample(embeds, num_inference_steps=steps, guide=guide)

    few, many = sampler(DDIMScheduler, 20), sampler(DDPMScheduler, size.steps)
    names = ("DDIM, 20 steps (the default)", f"DDPM, {size.steps} steps")
    return Pair(f"{kind}: latents at scale {SCALE}", *names, few, many, same=False)


def main(cfg: Config) -> None:
    run_benchmark(cfg, "What guidance in one pass and few denoising steps save", SIZES, sampling)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
