"""What a denoiser predicts, against diffusers' own formulas."""

import diffusers
import pytest
import torch
from torch.testing import assert_close

from weightgen import InputError
from weightgen.priors.parametrisation import KINDS, check_kind, from_clean, signal_and_noise, to_clean

T = 50
SCHEDULER = diffusers.DDPMScheduler(num_train_timesteps=T, clip_sample=False)


@pytest.fixture
def drawn():
    """Clean latents, noise, times, and the noisy latents of a scheduler."""
    clean, noise, times = torch.randn(64, 3), torch.randn(64, 3), torch.randint(T, (64,))
    return clean, noise, times, SCHEDULER.add_noise(clean, noise, times)


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, drawn):
    clean, noise, times, noisy = drawn
    a, sigma = signal_and_noise(SCHEDULER, times, clean)
    expected = {
        "epsilon": noise,
        "sample": clean,
        "v_prediction": SCHEDULER.get_velocity(clean, noise, times),
    }[kind]
    prediction = from_clean(kind, clean, noisy, a, sigma)
    assert_close(prediction, expected, rtol=1e-4, atol=1e-4)
    assert_close(to_clean(kind, prediction, noisy, a, sigma), clean, rtol=1e-4, atol=1e-4)


def test_signal_and_noise_are_those_of_the_scheduler(drawn):
    clean, noise, times, noisy = drawn
    a, sigma = signal_and_noise(SCHEDULER, times, clean.double())
    assert a.shape == sigma.shape == (64, 1) and a.dtype == torch.float64
    assert_close((a * clean + sigma * noise).float(), noisy, rtol=1e-5, atol=1e-5)


def test_other_kinds_are_refused():
    assert check_kind(SCHEDULER) == "epsilon"
    with pytest.raises(InputError, match="'epsilon', 'sample', 'v_prediction'.*'flow'"):
        check_kind(diffusers.DDPMScheduler.from_config(SCHEDULER.config, prediction_type="flow"))
