"""Every scheduler of diffusers samples what it should, or is refused in words; and one of a user's own is saved and loaded."""

import diffusers
import pytest
import torch
from torch import nn

from weightgen import InputError
from weightgen.priors import DiffusionPrior, MLPDenoiser, check_scheduler, paper_schedule
from weightgen.priors.parametrisation import from_clean, signal_and_noise
from weightgen.priors.trial import check_steps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

MEAN, STD = torch.tensor([1.0, -1.0, 0.5]), 0.5
PREDICTIONS = ("epsilon", "sample", "v_prediction")
STEPS = (1, 2, 5, 20, 350)
# What can sample from a prior of the paper's schedule; all others of diffusers are refused when they are assigned.
ODE = {
    *("DDIMScheduler", "DDIMParallelScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler"),
    *("DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"),
    *("KDPM2DiscreteScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler"),
}
RANDOM = {
    *("DDPMScheduler", "DDPMParallelScheduler", "EulerAncestralDiscreteScheduler", "SASolverScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "LCMScheduler", "TCDScheduler"),
}
NO_CLEAN = {  # these do not know prediction_type="sample"
    *("EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
    "PNDMScheduler",
}


def kinds():
    """All classes of schedulers that diffusers can import here."""
    found = {}
    for name in dir(diffusers):
        kind = getattr(diffusers, name, None) if "Flax" not in name else None
        if (
            isinstance(kind, type)
            and issubclass(kind, diffusers.SchedulerMixin)
            and hasattr(kind, "from_config")
        ):
            found[name] = kind
    return found


KINDS = kinds()
WORKING = sorted(ODE | RANDOM)


class Exact(nn.Module):
    """E[z₀ | z_t], restated as the prediction type says, where z₀ ~ N(mean, std²)."""

    latent_dim, part_dims = 3, (3,)

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, latents, times, embeds):
        a, sigma = signal_and_noise(self.schedule, times, latents)
        clean = embeds + a * STD**2 / (a.square() * STD**2 + sigma.square()) * (latents - a * embeds)
        return from_clean(self.schedule.config.prediction_type, clean, latents, a, sigma)


def exact_prior(prediction="epsilon"):
    schedule = paper_schedule(prediction)
    prior = DiffusionPrior(Exact(schedule), schedule)
    prior.latents.count.fill_(9)
    return prior


def drawn(prior, steps, rows=512):
    return prior.sample(
        MEAN.expand(rows, 3), num_inference_steps=steps, generator=torch.Generator().manual_seed(0)
    )


def test_the_lists_name_schedulers_that_exist():
    assert {*ODE, *RANDOM} <= KINDS.keys() and len(KINDS) > 25


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_scheduler_works_or_is_refused(name):
    """Afresh as `Kind()`, and as `Kind.from_config` of the pipeline's; with few steps and with all."""
    prior = exact_prior()
    with pytest.raises((InputError, ImportError, TypeError)):
        prior.scheduler = KINDS[
            name
        ]()  # other betas and steps than in training, or arguments or packages are missing
    try:
        made = KINDS[name].from_config(prior.scheduler.config)
    except (ImportError, TypeError, ValueError):
        return  # diffusers itself refuses
    if name not in {*ODE, *RANDOM}:
        with pytest.raises(InputError, match=name):
            prior.scheduler = made
        return
    prior.scheduler = made
    worked = []
    for steps in STEPS:
        try:
            latents = drawn(prior, steps)
        except InputError as error:
            assert f"{name} with {steps} step" in str(error) and "another number of steps" in str(error)
            continue
        worked.append(steps)
        assert latents.shape == (512, 3) and latents.isfinite().all()
        assert ((latents.mean(dim=0) - MEAN).abs() < 0.1).all() and (latents.std(dim=0) < 1.65 * STD).all()
    assert 20 in worked


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", sorted(ODE))
def test_deterministic_schedulers_agree_with_all_steps_of_ddim(name, prediction):
    """They solve one equation: from the same noise they come to the same latents, when steps are many."""
    prior = exact_prior(prediction)
    expected = drawn(prior, 350, rows=32)
    if prediction == "sample" and name in NO_CLEAN:
        with pytest.raises(InputError, match=name):
            prior.scheduler = KINDS[name].from_config(prior.scheduler.config)
        return
    prior.scheduler = KINDS[name].from_config(prior.scheduler.config)
    assert (drawn(prior, 60, rows=32) - expected).abs().max() < 0.15
    assert (drawn(prior, 349, rows=32) - expected).abs().max() < 0.06


def test_a_single_step_that_starts_where_there_is_no_noise_is_refused():
    prior = exact_prior()
    with pytest.raises(InputError, match="DDIMScheduler with 1 step does not denoise.*it gives .* and 1;"):
        drawn(prior, 1)
    prior.scheduler = diffusers.DDIMScheduler.from_config(prior.scheduler.config, timestep_spacing="trailing")
    assert (drawn(prior, 1) - MEAN).abs().max() < 0.2  # the mean: one step cannot do more


@pytest.mark.parametrize(("name", "steps"), [("HeunDiscreteScheduler", 2), ("KDPM2DiscreteScheduler", 5)])
def test_steps_that_overshoot_are_refused(name, steps):
    prior = exact_prior()
    prior.scheduler = KINDS[name].from_config(prior.scheduler.config)
    with pytest.raises(InputError, match=f"{name} with {steps} steps does not denoise"):
        drawn(prior, steps)
    drawn(prior, 10)


def test_a_trial_does_not_change_the_random_state():
    state = torch.get_rng_state()
    check_steps(diffusers.DDPMScheduler.from_config(exact_prior().scheduler.config), 20)
    assert torch.equal(torch.get_rng_state(), state)


def test_predicting_noise_where_no_signal_is_left_is_refused():
    for kind in (diffusers.DDIMScheduler, diffusers.EulerDiscreteScheduler):
        options = {"clip_sample": False} if kind is diffusers.DDIMScheduler else {}
        with pytest.raises(InputError, match="v_prediction' or 'sample'"):
            check_scheduler(kind(rescale_betas_zero_snr=True, **options))
        check_scheduler(kind(rescale_betas_zero_snr=True, prediction_type="v_prediction", **options))


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_other_predictions_bear_a_last_time_without_signal(prediction):
    schedule = diffusers.DDIMScheduler(
        350,
        clip_sample=False,
        rescale_betas_zero_snr=True,
        prediction_type=prediction,
        timestep_spacing="trailing",
    )
    prior = DiffusionPrior(Exact(schedule), schedule)
    prior.latents.count.fill_(9)
    latents = drawn(prior, 50)
    assert ((latents.mean(dim=0) - MEAN).abs() < 0.1).all()


@pytest.mark.parametrize("given", ["DDIM", None, 3, diffusers.DDIMScheduler])
def test_what_is_no_scheduler(given):
    with pytest.raises(InputError, match="scheduler"):
        exact_prior().scheduler = given


class Half(diffusers.DDIMScheduler):
    """A user's own scheduler: half of the steps."""

    def set_timesteps(self, num_inference_steps, device=None):
        super().set_timesteps(max(2, num_inference_steps // 2), device)


def test_a_scheduler_of_ones_own_is_saved_and_loaded(tmp_path):
    denoiser = MLPDenoiser(3, 3, hidden_dims=(8,), time_dim=8).eval()
    denoiser.embeds.fit(torch.randn(9, 3))
    prior = DiffusionPrior(denoiser, paper_schedule())
    prior.latents.fit(torch.randn(9, 3))
    prior.scheduler = Half.from_config(prior.scheduler.config)
    prior.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="trust_remote_code"):
        DiffusionPrior.from_pretrained(tmp_path)
    loaded = DiffusionPrior.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(loaded.scheduler) is Half
    assert torch.equal(drawn(loaded, 20, rows=4), drawn(prior, 20, rows=4))


@pytest.mark.parametrize("scale", [1e30, -1e38])
def test_values_that_are_not_finite_are_refused(scale):
    prior = exact_prior()
    with pytest.raises(InputError, match="NaN or infinite: give a smaller guidance scale"):
        prior.sample(MEAN.expand(2, 3), guide=lambda d: lambda z, t, e: scale * d(z, t, e))
