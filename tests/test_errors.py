"""Checks of settings: what is out of range is refused in one line, by name, when a class is built."""

import sys

import pytest
import torch
from torch import nn

from tests.contracts import parts
from weightgen import InputError, WeightSpace
from weightgen.adaptation import fine_tune
from weightgen.encoders.hyperclip import HyperCLIP
from weightgen.errors import check_range, check_sizes, one_line_errors
from weightgen.guidance import ClassifierFreeGuidance, TextAndSupportGuidance
from weightgen.hypernets import HVAE, FiLM, HNet
from weightgen.networks import MLP, CLIPAdapter
from weightgen.objectives import AdaptationLoss, ContrastiveLoss, ELBOLoss, LatentDiffusionLoss
from weightgen.priors import GaussianPrior, MLPDenoiser, paper_schedule
from weightgen.shots import draw_support, one_pass_weights, resplit
from weightgen.tasks import TaskBatchSampler, batches

NAN, INF = float("nan"), float("inf")
SPACE = WeightSpace.of(nn.Linear(3, 2))


@pytest.mark.parametrize("value", [NAN, INF, -INF, -0.1, 1.5, "0.5", None, True])
def test_numbers_out_of_range(value):
    with pytest.raises(InputError, match="rate must be a number from 0 to 1, got"):
        check_range(0, 1, fine=0.5, rate=value)


@pytest.mark.parametrize("value", [0, 0.5, 1, 10**400])
def test_numbers_in_range(value):
    if value == 10**400:
        with pytest.raises(InputError, match="rate must be a number from 0 to 1"):
            check_range(0, 1, rate=value)
    else:
        check_range(0, 1, rate=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, NAN, True, "8", None, 10**7, [8, 0], [[8]], [8] * 1001])
def test_sizes_out_of_range(value):
    with pytest.raises(InputError, match="^width must "):
        check_sizes(fine=[1, 2], width=value)


def network():
    return parts.adapter()


WRONG = {
    "hidden_dim must": lambda: CLIPAdapter(8, 10**7),
    "embed_dim must": lambda: CLIPAdapter(0),
    "logit_scale must": lambda: CLIPAdapter(8, logit_scale=NAN),
    "hidden_dims must": lambda: MLP(4, [-1], 2),
    "out_dim must": lambda: MLP(4, [], 0),
    "latent_dim must": lambda: HNet(SPACE, 4, latent_dim=0),
    "input_noise must": lambda: HNet(SPACE, 4, input_noise=-1),
    "spread must": lambda: HNet(SPACE, 4, spread=NAN),
    "input_dim must": lambda: FiLM(SPACE, 0),
    "hidden_dims must have at most": lambda: HVAE(SPACE, 4, [8] * 10**5),
    "noise must": lambda: HyperCLIP(9, 4, standardize=True, noise=INF),
    "time_dim must": lambda: MLPDenoiser(4, 4, (8,), time_dim=2),
    "an even time_dim": lambda: MLPDenoiser(4, 4, (8,), time_dim=9),
    "at least one width": lambda: MLPDenoiser(4, 4, ()),
    "embed_noise must": lambda: MLPDenoiser(4, 4, (8,), embed_noise=NAN),
    "support_dim must": lambda: MLPDenoiser(4, 4, (8,), support_dim=-1),
    "num_train_timesteps must": lambda: paper_schedule(num_train_timesteps=10**9),
    "std must": lambda: GaussianPrior(torch.zeros(3), -1.0),
    "the prior holds NaN": lambda: GaussianPrior(torch.full((3,), NAN)),
    "scale must": lambda: ClassifierFreeGuidance(parts.denoiser(), NAN),
    "support_scale must": lambda: TextAndSupportGuidance(parts.denoiser(), 4, 1.0, INF),
    "inner_lr must": lambda: AdaptationLoss(network(), parts.fitted(HNet), 0, 1, inner_lr=-1),
    "support_fraction must": lambda: AdaptationLoss(network(), parts.fitted(HNet), support_fraction=1.5),
    "kl_weight must": lambda: ELBOLoss(parts.hvae(), network(), kl_weight=-1),
    "logit_scale must be": lambda: ContrastiveLoss(parts.hyperclip(), logit_scale=NAN),
    "drop_rate must": lambda: LatentDiffusionLoss(
        parts.denoiser(), parts.diffusion(), parts.hvae(), network(), drop_rate=1.5
    ),
    "function_weight must": lambda: LatentDiffusionLoss(
        parts.denoiser(), parts.diffusion(), parts.hvae(), network(), function_weight=-1
    ),
    "steps must": lambda: fine_tune(network(), parts.fitted(HNet), parts.tasks(), steps=-1, lr=0.1),
    "lr must": lambda: fine_tune(network(), parts.fitted(HNet), parts.tasks(), steps=1, lr=-0.1),
    "draws must": lambda: one_pass_weights(parts.support_hnet(), [], 0),
    "max_shots must": lambda: draw_support(parts.tasks(), 0),
    "support_fraction must be": lambda: resplit(parts.tasks(), -0.5),
    "batch_size must": lambda: batches([1, 2], 0),
    "seed must": lambda: TaskBatchSampler([1], 1, 1, seed=-1),
    "steps must be": lambda: TaskBatchSampler([1], 1, -1),
}


@pytest.mark.parametrize("message", WRONG)
def test_settings_out_of_range(message):
    with pytest.raises(InputError, match=message) as caught:
        WRONG[message]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (False, {"TERM": "xterm"}, "error: one two three four\n"),
        (True, {"TERM": "xterm"}, "\033[1;31merror:\033[0m one two\nthree four\n"),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, "error: one two\nthree four\n"),
        (True, {"TERM": "dumb"}, "error: one two\nthree four\n"),
    ],
)
def test_errors_in_a_terminal(monkeypatch, capsys, terminal, environment, expected):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {**environment, "COLUMNS": "15"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with pytest.raises(SystemExit), one_line_errors():
        raise InputError("one two\nthree four")
    assert capsys.readouterr().err == expected
