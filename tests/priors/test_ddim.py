"""DDIM without diffusers: the numbers of diffusers to the bit, and diffusers for everything else."""

import json

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor

from weightgen.priors import DiffusionPrior, MLPDenoiser, paper_schedule
from weightgen.priors.ddim import DDIM, is_plain
from weightgen.priors.diffusion import draw_noise
from weightgen.priors.schedulers import load_scheduler, save_scheduler


def saved(scheduler, folder):
    save_scheduler(scheduler, folder)
    return json.loads((folder / "scheduler_config.json").read_text())


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 20, 37, 350])
def test_every_step_is_that_of_diffusers(kind, steps, tmp_path):
    theirs = paper_schedule(kind)
    ours = DDIM(saved(theirs, tmp_path))
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    ours.set_timesteps(steps)
    theirs.set_timesteps(steps)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    torch.manual_seed(0)
    z, predictions = torch.randn(5, 7), torch.randn(steps, 5, 7)
    for time, prediction in zip(ours.timesteps, predictions, strict=True):
        found = ours.step(prediction, time, z).prev_sample
        assert torch.equal(found, theirs.step(prediction, time, z).prev_sample)
        z = found


@pytest.mark.parametrize(
    "changes",
    [
        {"beta_schedule": "scaled_linear"},
        {"timestep_spacing": "trailing"},
        {"set_alpha_to_one": False},
        {"steps_offset": 1},
        {"trained_betas": [0.1] * 350},
        {"beta_end": "much"},
        {"_class_name": "DDPMScheduler"},
        {"prediction_type": "flow"},
    ],
)
def test_other_settings_are_left_to_diffusers(changes, tmp_path):
    config = saved(paper_schedule(), tmp_path)
    assert is_plain(config) and not is_plain(config | changes)
    assert not is_plain({name: value for name, value in config.items() if name not in changes})


def test_a_loaded_prior_samples_alike_and_gives_the_scheduler_of_diffusers_to_who_asks(tmp_path):
    torch.manual_seed(0)
    denoiser = MLPDenoiser(3, 4, hidden_dims=(16,), time_dim=8)
    denoiser.embeds.fit(torch.randn(20, 4))
    prior = DiffusionPrior(denoiser, paper_schedule("sample")).eval()
    prior.latents.fit(4 + 2 * torch.randn(20, 3))
    prior.save_pretrained(tmp_path / "prior")
    assert isinstance(load_scheduler(tmp_path / "prior/scheduler"), DDIM)
    loaded, embeds = DiffusionPrior.from_pretrained(tmp_path / "prior"), torch.randn(5, 4)
    draws = [each.sample(embeds, generator=torch.Generator().manual_seed(1)) for each in (prior, loaded)]
    assert torch.equal(*draws)
    assert loaded.trained_with("num_train_timesteps") == 350
    asked = loaded.scheduler
    assert type(asked) is DDIMScheduler and loaded.scheduler is asked
    assert {**asked.config, "_use_default_values": []} == {
        **prior.scheduler.config,
        "_use_default_values": [],
    }
    loaded.save_pretrained(tmp_path / "again")
    for path in (tmp_path / "prior").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "prior")).read_bytes()


@pytest.mark.parametrize("seeds", [None, 5, [3], [3, 4, 5]])
def test_the_noise_is_that_of_diffusers(seeds):
    def generators():
        many = isinstance(seeds, list)
        made = [torch.Generator().manual_seed(seed) for seed in (seeds if many else [seeds or 0])]
        return None if seeds is None else (made if many else made[0])

    rows = len(seeds) if isinstance(seeds, list) else 3
    like = torch.zeros(rows, 2, dtype=torch.double)
    torch.manual_seed(7)
    ours = draw_noise(like, 6, generators())
    torch.manual_seed(7)
    assert torch.equal(ours, randn_tensor((rows, 6), generators(), dtype=torch.double))
