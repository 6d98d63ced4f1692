"""The diffusion prior: the paper's schedule, several schedulers, and samples that depend on their own generator alone."""

import json

import diffusers
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from weightgen import InputError
from weightgen.guidance import ClassifierFreeGuidance
from weightgen.priors import DiffusionPrior, MLPDenoiser, check_scheduler, paper_schedule
from weightgen.priors.schedulers import load_scheduler
from weightgen.storage.files import write_tensors

# Some schedulers of diffusers convert tensors in the way of numpy 1.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Z, E, T = 3, 4, 350
SCHEDULE = {"num_train_timesteps": T, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.06}
CLIPPING = {"DDIMScheduler", "DDPMScheduler"}
KINDS = [
    "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler",
    "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "PNDMScheduler", "HeunDiscreteScheduler",
]  # fmt: skip


def schedule(kind="DDIMScheduler", **options):
    options = ({"clip_sample": False} if kind in CLIPPING else {}) | options
    return getattr(diffusers, kind)(**SCHEDULE, **options)


def kept_signal():
    """ᾱ from the definition of a linear β."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.06, T, dtype=torch.float64), dim=0)


class Exact(nn.Module):
    """The best denoiser there is where z₀ ~ N(e, s²): E[ε | z_t], in closed form; the embedding is the mean."""

    latent_dim = Z

    def __init__(self, std):
        super().__init__()
        self.std = std

    def forward(self, latents, times, embeds):
        kept = kept_signal().float()[times.long()][:, None]
        residual = latents - kept.sqrt() * embeds[:, :Z]
        return (1 - kept).sqrt() * residual / (kept * self.std**2 + 1 - kept)


def exact_prior(kind="DDIMScheduler", std=0.5):
    prior = DiffusionPrior(Exact(std), schedule(kind))
    prior.latents.mean.copy_(torch.tensor([10.0, -5.0, 0.0]))
    prior.latents.std.copy_(torch.tensor([2.0, 1.0, 0.1]))
    prior.latents.count.fill_(9)
    return prior


@pytest.fixture
def prior():
    """A small prior of random weights."""
    denoiser = MLPDenoiser(Z, E, hidden_dims=(16, 16), time_dim=8)
    denoiser.embeds.fit(torch.randn(20, E))
    prior = DiffusionPrior(denoiser, schedule()).eval()
    prior.latents.fit(4 + 2 * torch.randn(20, Z))
    return prior


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_the_papers_schedule():
    """A truly linear β: "scaled_linear", diffusers' habit for images, is linear in √β."""
    scheduler = paper_schedule()
    assert scheduler.config.prediction_type == "epsilon"
    assert paper_schedule("sample").config.prediction_type == "sample"
    assert scheduler.config.num_train_timesteps == len(scheduler.betas) == 350
    assert scheduler.betas[0].item() == pytest.approx(1e-4) and scheduler.betas[-1].item() == pytest.approx(
        0.06
    )
    steps = scheduler.betas.double().diff()
    assert_close(steps, torch.full_like(steps, (0.06 - 1e-4) / 349), rtol=1e-3, atol=0)
    assert_close(scheduler.alphas_cumprod.double(), kept_signal(), rtol=1e-4, atol=0)
    assert (
        scheduler.alphas_cumprod[-1] < 1e-4
    )  # at the end hardly any signal is left, so sampling may start from noise
    check_scheduler(scheduler)


@pytest.mark.parametrize("kind", KINDS)
def test_schedulers_sample_the_right_distribution(kind):
    embeds = torch.tensor([1.0, -1.0, 0.5, 0.0]).expand(4000, E)
    steps = 100 if kind == "EulerAncestralDiscreteScheduler" else 50
    latents = exact_prior(kind).sample(embeds, num_inference_steps=steps, generator=seeded(0)[0])
    mean, std = torch.tensor([10 + 2 * 1.0, -5 - 1.0, 0.1 * 0.5]), 0.5 * torch.tensor([2, 1, 0.1])
    assert_close((latents.mean(0) - mean) / std, torch.zeros(Z), atol=0.15, rtol=0)
    assert_close(latents.std(0) / std, torch.ones(Z), atol=0.15, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduler_can_be_exchanged(prior, kind):
    embeds = torch.randn(5, E)
    before = prior.sample(embeds, generator=seeded(0)[0])
    prior.scheduler = schedule(kind)
    latents = prior.sample(embeds, num_inference_steps=7, generator=seeded(0)[0])
    assert latents.shape == (5, Z) and latents.isfinite().all() and not latents.requires_grad
    assert not torch.allclose(latents, before)
    # A run leaves no trace: multistep solvers keep a history.
    assert torch.equal(prior.sample(embeds, num_inference_steps=7, generator=seeded(0)[0]), latents)


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_gives_one_sample_whatever_the_batch(prior, kind):
    prior.scheduler = schedule(kind)
    embeds, seeds = torch.randn(6, E), (3, 1, 4, 1, 5, 9)
    together = prior.sample(embeds, num_inference_steps=9, generator=seeded(*seeds))
    for row in (0, 3, 5):
        alone = prior.sample(embeds[[row]], num_inference_steps=9, generator=seeded(seeds[row]))
        assert_close(alone[0], together[row], rtol=1e-4, atol=1e-4)
    turned = prior.sample(embeds.flip(0), num_inference_steps=9, generator=seeded(*seeds[::-1]))
    assert_close(turned.flip(0), together, rtol=1e-4, atol=1e-4)
    other = prior.sample(embeds, num_inference_steps=9, generator=seeded(2, *seeds[1:]))
    assert not torch.allclose(other[0], together[0], atol=1e-2)
    assert_close(other[1:], together[1:])


def test_one_generator_for_all_and_the_global_one(prior):
    embeds = torch.randn(1, E).expand(4, E)
    latents = prior.sample(embeds, generator=seeded(0)[0])
    assert len(latents.unique(dim=0)) == 4  # one question, several draws
    assert torch.equal(prior.sample(embeds, generator=seeded(0)[0]), latents)
    torch.manual_seed(8)
    one = prior.sample(embeds)
    torch.manual_seed(8)
    assert torch.equal(prior.sample(embeds), one)
    assert not torch.allclose(prior.sample(embeds), one)


def test_guidance_pushes_away_from_the_unconditional():
    """With an exact denoiser, whose unconditional mean is 0, guidance by 2 moves the mean beyond the conditional one."""
    prior, embeds = exact_prior(), torch.ones(2000, E)
    heard = []

    def guide(denoiser):
        heard.append(denoiser)
        return ClassifierFreeGuidance(denoiser, 2.0)

    plain = prior.latents(prior.sample(embeds, generator=seeded(0)[0]))
    guided = prior.latents(prior.sample(embeds, generator=seeded(0)[0], guide=guide))
    assert heard == [prior.denoiser]
    assert (guided.mean(0) > plain.mean(0) + 0.5).all()


@pytest.mark.parametrize("steps", [2, 3, T])
def test_numbers_of_steps(prior, steps):
    times = []
    prior.denoiser.register_forward_hook(lambda module, given, out: times.append(given[1]))
    prior.sample(torch.randn(2, E), num_inference_steps=steps)
    assert len(times) == steps and all(t.shape == (2,) for t in times)
    assert all((before > after).all() for before, after in zip(times, times[1:], strict=False))


@pytest.mark.parametrize("steps", [0, -1, T + 1])
def test_impossible_numbers_of_steps(prior, steps):
    with pytest.raises(InputError, match=f"from 1 to 350 .*got {steps}"):
        prior.sample(torch.randn(2, E), num_inference_steps=steps)


def test_clipping_schedulers_are_refused(prior):
    for options in ({"clip_sample": True}, {"thresholding": True}):
        (name,) = options
        clipping = diffusers.DDIMScheduler(**SCHEDULE, **({"clip_sample": False} | options))
        with pytest.raises(InputError, match=f"DDIMScheduler has {name}=True.*build it with {name}=False"):
            DiffusionPrior(prior.denoiser, clipping)
        with pytest.raises(InputError, match=name):
            prior.scheduler = clipping
    with pytest.raises(InputError, match="clip_sample"):  # the default of diffusers
        check_scheduler(diffusers.DDPMScheduler(**SCHEDULE))
    assert not prior.scheduler.config.clip_sample  # what was refused did not stay


def test_clipping_would_matter():
    """What is refused does harm: latents beyond [-1, 1] are drawn, and a clipping scheduler has none."""
    embeds = torch.full((500, E), 3.0)
    prior = exact_prior()
    assert prior.latents(prior.sample(embeds)).mean() > 2.5
    prior._scheduler = diffusers.DDIMScheduler(**SCHEDULE)
    assert prior.latents(prior.sample(embeds)).max() < 1.01


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(prior, tmp_path, kind):
    prior.scheduler = schedule(kind)
    prior.save_pretrained(tmp_path)
    loaded = DiffusionPrior.from_pretrained(tmp_path)
    assert type(loaded.scheduler) is getattr(diffusers, kind) and not loaded.training
    embeds = torch.randn(3, E)
    one, other = (p.sample(embeds, num_inference_steps=5, generator=seeded(0)[0]) for p in (prior, loaded))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["ConfigMixin", "NoSuchScheduler", "", "__name__", "utils"])
def test_what_is_no_scheduler_is_refused(tmp_path, name):
    (tmp_path / "scheduler_config.json").write_text(f'{{"_class_name": "{name}"}}')
    with pytest.raises(InputError, match=f"names '{name}', which is no scheduler"):
        load_scheduler(tmp_path)


def test_statistics_are_needed_and_are_buffers(prior):
    assert {"latents.mean", "latents.std", "latents.count"} <= prior.state_dict().keys()
    assert not any(name.startswith("latents") for name, _ in prior.named_parameters())
    fresh = DiffusionPrior(prior.denoiser, schedule())
    with pytest.raises(InputError, match="no statistics"):
        fresh.sample(torch.randn(2, E), num_inference_steps=2)


def test_temperature_scales_the_noise_that_sampling_starts_from():
    prior, means = exact_prior(std=0.5), torch.randn(4000, E)
    spread = [
        (
            prior.sample(means, temperature=heat, num_inference_steps=T) - prior.latents.inverse(means[:, :Z])
        ).std(dim=0)
        for heat in (1.0, 0.5, 0.0)
    ]
    assert_close(spread[0], 0.5 * prior.latents.std, rtol=0.1, atol=0)
    assert_close(spread[1], 0.5 * spread[0], rtol=0.05, atol=0)
    assert (spread[2] < 0.01 * spread[0]).all()


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_impossible_temperatures(prior, temperature):
    with pytest.raises(InputError, match="from 0 up"):
        prior.sample(torch.randn(2, E), temperature=temperature)


def test_arguments_by_position_are_kept(tmp_path):
    """diffusers records them as defaults, which its own `from_config` replaces."""
    plain = diffusers.DDIMScheduler(350, clip_sample=False)
    assert diffusers.DDIMScheduler.from_config(plain.config).config.num_train_timesteps == 1000
    denoiser = MLPDenoiser(Z, E, hidden_dims=(16,), time_dim=8).eval()
    denoiser.embeds.fit(torch.randn(20, E))
    prior = DiffusionPrior(denoiser, plain)
    prior.latents.fit(torch.randn(20, Z))
    times = []
    denoiser.register_forward_hook(lambda module, given, out: times.append(int(given[1][0])))
    prior.sample(torch.randn(2, E), num_inference_steps=350)
    assert times == list(range(349, -1, -1))
    prior.save_pretrained(tmp_path)
    assert DiffusionPrior.from_pretrained(tmp_path).scheduler.config.num_train_timesteps == 350
    prior.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(prior.scheduler.config)
    assert prior.scheduler.config.num_train_timesteps == 350
    assert prior.scheduler.config.timestep_spacing == "linspace"  # its own default, not that of DDIM


@pytest.mark.parametrize("kind", KINDS)
def test_another_scheduler_from_the_config_of_the_trained_one(prior, kind):
    prior.scheduler = getattr(diffusers, kind).from_config(prior.scheduler.config)
    assert prior.sample(torch.randn(2, E), num_inference_steps=6).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_type": "sample"}, "prediction_type='epsilon', but DDIMScheduler has 'sample'"),
        ({"num_train_timesteps": 1000}, "num_train_timesteps=350, but DDIMScheduler has 1000"),
        ({"beta_end": 0.02}, "other noise levels"),
        ({"beta_schedule": "scaled_linear"}, "other noise levels"),
    ],
)
def test_schedulers_of_another_training_are_refused(prior, options, message):
    before = prior.scheduler
    advice = r"write DDIMScheduler.from_config\(pipe.scheduler.config\)"
    with pytest.raises(InputError, match=f"{message}.*{advice}"):
        prior.scheduler = diffusers.DDIMScheduler(**SCHEDULE | {"clip_sample": False} | options)
    assert prior.scheduler is before


def test_a_scheduler_of_flows_is_refused(prior):
    with pytest.raises(InputError, match="the prior was trained with"):
        prior.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=T)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_samples_that_are_not_finite(prior, number):
    embeds = torch.zeros(3, E)
    embeds[1, 0] = number
    with pytest.raises(InputError, match="the latents sampled for embedding 1 are NaN or infinite"):
        exact_prior().sample(embeds)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train_timesteps": 10**9}, "num_train_timesteps must be a whole number"),
        ({"num_train_timesteps": "many"}, "num_train_timesteps must be a whole number"),
        ({"beta_schedule": "cubic"}, "does not hold the settings of a DDIMScheduler"),
        ({"beta_end": float("nan")}, "noise levels"),
        ({"trained_betas": [0.1, float("nan")]}, "noise levels"),
        ({"prediction_type": "flow"}, "prediction_type must be one of"),
    ],
)
def test_settings_of_a_scheduler_that_are_out_of_range(tmp_path, settings, message):
    config = {"_class_name": "DDIMScheduler", "clip_sample": False, **SCHEDULE, **settings}
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message):
        check_scheduler(load_scheduler(tmp_path))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mean", torch.full((Z,), float("nan")), "holds NaN or infinite numbers in 'mean'"),
        ("mean", torch.zeros(Z + 1), f"does not hold the statistics of {Z} latents"),
        ("other", torch.zeros(Z), f"does not hold the statistics of {Z} latents"),
    ],
)
def test_statistics_of_latents_that_are_damaged(tmp_path, name, value, message):
    prior = DiffusionPrior(MLPDenoiser(Z, E, (8,), time_dim=8), schedule())
    prior.save_pretrained(tmp_path)
    state = prior.latents.state_dict() | {name: value}
    write_tensors(tmp_path / "latents.safetensors", state)
    with pytest.raises(InputError, match=message):
        DiffusionPrior.from_pretrained(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="is no folder: expected a saved MLPDenoiser"):
        DiffusionPrior.from_pretrained(tmp_path / "nowhere")
