"""Guidance by text and support set: its formula, and that it is classifier-free guidance where one is missing."""

import pytest
import torch
from torch.testing import assert_close

from weightgen.guidance import ClassifierFreeGuidance, TextAndSupportGuidance
from weightgen.priors import MLPDenoiser

Z, E, D, B = 6, 5, 4, 7


@pytest.fixture
def denoiser():
    model = MLPDenoiser(Z, E, hidden_dims=(32, 16), time_dim=8, support_dim=D)
    model.embeds.fit(torch.randn(40, E))
    model.supports.fit(1 + torch.randn(40, D))
    return model.eval()


@pytest.fixture
def case():
    return torch.randn(B, Z), torch.randint(0, 350, (B,)), torch.randn(B, E + D)


def without(embeds, text=False, support=False):
    found = embeds.clone()
    if text:
        found[:, :E] = 0
    if support:
        found[:, E:] = 0
    return found


@pytest.mark.parametrize(("text_scale", "support_scale"), [(1.5, 2.0), (0.0, 3.0), (-1.0, 0.5)])
def test_the_formula_in_its_order(denoiser, case, text_scale, support_scale):
    z, t, both = case
    nothing = denoiser(z, t, torch.zeros_like(both))
    text = denoiser(z, t, without(both, support=True))
    expected = nothing + text_scale * (text - nothing) + support_scale * (denoiser(*case) - text)
    assert_close(TextAndSupportGuidance(denoiser, E, text_scale, support_scale)(*case), expected)


def test_scales_of_one_are_the_conditional_prediction(denoiser, case):
    assert_close(TextAndSupportGuidance(denoiser, E, 1.0, 1.0)(*case), denoiser(*case))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("missing", ["text", "support"])
def test_one_of_both_is_classifier_free_guidance(denoiser, case, missing, scale):
    z, t, both = case
    embeds = without(both, **{missing: True})
    scales = (scale, 9.0) if missing == "support" else (9.0, scale)
    guided = TextAndSupportGuidance(denoiser, E, *scales)(z, t, embeds)
    assert_close(guided, ClassifierFreeGuidance(denoiser, scale)(z, t, embeds))


def test_it_is_one_batch_and_rows_are_independent(denoiser, case):
    sizes = []

    def counted(z, t, embeds):
        sizes.append(len(z))
        return denoiser(z, t, embeds)

    guidance = TextAndSupportGuidance(counted, E, 1.5, 2.0)
    together = guidance(*case)
    assert sizes == [3 * B]
    assert_close(guidance(*(part[2:4] for part in case)), together[2:4])
