"""The denoiser: its formula, that all of it is in the graph, and what "no condition" means."""

import subprocess
import sys

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn
from torch.testing import assert_close

from weightgen import InputError
from weightgen.priors import MLPDenoiser, drop_parts, null_embeds
from weightgen.priors.denoiser import SqueezeExcitation, embed_times
from weightgen.storage.hub import load_part

Z, E, B = 6, 5, 16


def make(**options):
    denoiser = MLPDenoiser(Z, E, **({"hidden_dims": (32, 24, 16), "time_dim": 8} | options))
    denoiser.embeds.fit(2 + 3 * torch.randn(40, E))
    return denoiser


def inputs(rows=B):
    return torch.randn(rows, Z), torch.randint(0, 350, (rows,)), 2 + 3 * torch.randn(rows, E)


@pytest.mark.parametrize("squeeze", [True, False])
def test_every_parameter_learns(squeeze):
    """The authors' code made squeeze-and-excitation layers and a last residual, and used neither."""
    denoiser = make(squeeze=squeeze)
    gates = [part for part in denoiser.modules() if isinstance(part, SqueezeExcitation)]
    assert len(gates) == 3 * squeeze and len(denoiser.blocks) == 3
    denoiser(*inputs()).square().sum().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize(
    "part", ["blocks.0.excite.gate.0", "blocks.2.excite.gate.2", "blocks.2.skip", "blocks.0.skip"]
)
def test_every_part_changes_the_prediction(part):
    denoiser, given = make().eval(), inputs()
    before = denoiser(*given)
    denoiser.get_submodule(part).weight.data.mul_(3)
    assert (denoiser(*given) - before).abs().max() > 1e-3


def test_the_formula():
    denoiser, (latents, times, embeds) = make().eval(), inputs()
    steps = 10_000.0 ** (-torch.arange(4) / 3)  # from 1 to 1/10 000, both included
    angles = times[:, None] * steps
    described = (embeds - denoiser.embeds.mean) / denoiser.embeds.std
    condition = torch.cat([angles.sin(), angles.cos(), described, torch.ones(B, 1)], dim=1)
    x = latents
    for block in denoiser.blocks:
        linear, norm, _ = block.body
        y = linear(torch.cat([x, condition], dim=1))
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        y = torch.relu(y * norm.weight + norm.bias)
        down, _, up, _ = block.excite.gate
        y = y * torch.sigmoid(torch.relu(y @ down.weight.T) @ up.weight.T)
        x = x @ block.skip.weight.T + y
    assert_close(denoiser(latents, times, embeds), x @ denoiser.out.weight.T + denoiser.out.bias)


def test_rows_do_not_depend_on_each_other():
    denoiser, (latents, times, embeds) = make().eval(), inputs()
    whole = denoiser(latents, times, embeds)
    assert_close(denoiser(latents[3:5], times[3:5], embeds[3:5]), whole[3:5])


@pytest.mark.parametrize("which", range(3))
def test_latent_time_and_embedding_all_matter(which):
    denoiser, given = make().eval(), list(inputs())
    other = [*given]
    other[which] = given[which].roll(1, dims=0)
    assert (denoiser(*given) - denoiser(*other)).abs().amax(dim=1).median() > 1e-3


def test_no_condition_is_a_word_of_its_own():
    denoiser, (latents, times, embeds) = make().eval(), inputs()
    assert torch.equal(null_embeds(embeds), torch.zeros(B, E))
    without = denoiser(latents, times, null_embeds(embeds))
    # Neither the embedding zero nor the average one: a bit tells them apart.
    average = denoiser(latents, times, denoiser.embeds.mean.expand(B, -1))
    assert (without - average).abs().max() > 1e-3
    mixed = embeds.clone()
    mixed[::2] = 0
    half = denoiser(latents, times, mixed)
    assert_close(half[::2], without[::2])
    assert_close(half[1::2], denoiser(latents, times, embeds)[1::2])


def test_no_condition_does_not_depend_on_the_statistics():
    denoiser, (latents, times, embeds) = make().eval(), inputs()
    before = denoiser(latents, times, null_embeds(embeds))
    denoiser.embeds.fit(100 * torch.randn(9, E))
    assert torch.equal(denoiser(latents, times, null_embeds(embeds)), before)


def test_noise_on_embeddings_is_drawn_in_training_alone():
    denoiser, given = make(embed_noise=0.5), inputs()
    assert not torch.allclose(denoiser(*given), denoiser(*given))
    nothing = given[0], given[1], null_embeds(given[2])
    assert torch.equal(denoiser(*nothing), denoiser(*nothing))  # and never where there is no embedding
    denoiser.eval()
    assert torch.equal(denoiser(*given), denoiser(*given))
    quiet = make()
    assert torch.equal(quiet(*given), quiet(*given))


def test_squeeze_and_excitation_by_hand():
    gate = SqueezeExcitation(16, reduction=4)
    features = torch.randn(3, 16)
    assert [tuple(p.shape) for p in gate.parameters()] == [(4, 16), (16, 4)]
    down, up = gate.parameters()
    assert_close(gate(features), features * torch.sigmoid(torch.relu(features @ down.T) @ up.T))
    assert SqueezeExcitation(3)(torch.randn(2, 3)).shape == (2, 3)


def test_the_papers_size():
    with torch.device("meta"):
        denoiser = MLPDenoiser(32, 768)
    widths = [block.body[0].out_features for block in denoiser.blocks]
    assert widths == [8192, 16384, 8192] and denoiser.time_dim == 150
    assert denoiser.blocks[0].body[0].in_features == 32 + 150 + 768 + 1
    assert all(isinstance(block.body[1], nn.LayerNorm) for block in denoiser.blocks)


def test_needs_the_statistics_of_its_embeddings():
    with pytest.raises(InputError, match="no statistics"):
        MLPDenoiser(Z, E, hidden_dims=(8,), time_dim=8)(*inputs())


def test_save_and_load(tmp_path):
    denoiser, given = make(embed_noise=0.1, squeeze=False).eval(), inputs()
    denoiser.save_pretrained(tmp_path)
    loaded = load_part(MLPDenoiser, tmp_path)
    assert torch.equal(loaded(*given), denoiser(*given))
    assert loaded.embed_noise == 0.1 and not loaded.training


def make_with_support(**options):
    denoiser = make(support_dim=3, **options)
    denoiser.supports.fit(5 * torch.randn(40, 3))
    return denoiser


def test_text_and_support_are_there_or_not_by_themselves():
    denoiser = make_with_support().eval()
    z, t, text = inputs()
    given = {"text": text, "support": torch.randn(B, 3)}

    def predict(*names):
        parts = [part if name in names else torch.zeros_like(part) for name, part in given.items()]
        return denoiser(z, t, torch.cat(parts, dim=-1))

    found = [predict(), predict("text"), predict("support"), predict("text", "support")]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one - other).abs().max() > 1e-3
    # A part that is the mean of all is not a part that is missing: a bit tells them apart.
    given["support"] = denoiser.supports.mean.expand(B, -1)
    assert (predict("support") - predict()).abs().max() > 1e-3


def test_every_parameter_learns_with_support():
    denoiser = make_with_support()
    z, t, text = inputs()
    denoiser(z, t, torch.cat([text, torch.randn(B, 3)], dim=-1)).square().sum().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_save_and_load_with_support(tmp_path):
    denoiser = make_with_support(support_noise=0.5).eval()
    denoiser.save_pretrained(tmp_path)
    z, t, text = inputs()
    given = (z, t, torch.cat([text, torch.randn(B, 3)], dim=-1))
    loaded = load_part(MLPDenoiser, tmp_path)
    assert torch.equal(loaded(*given), denoiser(*given)) and loaded.support_noise == 0.5
    assert not torch.equal(loaded.train()(*given), denoiser(*given))


def test_embeddings_of_another_length_are_refused():
    with pytest.raises(InputError, match=r"embeds of length 5 \+ 3, got 5"):
        make_with_support()(*inputs())
    with pytest.raises(InputError, match="embeds of length 5, got 4"):
        z, t, embeds = inputs()
        make()(z, t, embeds[:, 1:])


def test_parts_are_dropped_independently():
    embeds = torch.randn(40_000, 8)
    kept = drop_parts(embeds, (5, 3), 0.3)
    there = torch.stack([part.any(dim=-1) for part in kept.split([5, 3], dim=-1)], dim=1)
    assert torch.equal(kept, embeds * there.repeat_interleave(torch.tensor([5, 3]), dim=1))
    for text, support, share in [(True, True, 0.49), (True, False, 0.21), (False, True, 0.21), (False, False, 0.09)]:  # fmt: skip
        both = (there == torch.tensor([text, support])).all(dim=1)
        assert both.float().mean().item() == pytest.approx(share, abs=0.01)
    assert torch.equal(drop_parts(embeds, (5, 3), 0.0), embeds) and not drop_parts(embeds, (8,), 1.0).any()


@pytest.mark.parametrize("dim", [4, 8, 150])
@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_times_are_embedded_as_in_diffusers(dim, kind):
    times = torch.arange(1000).to(kind)
    assert torch.equal(embed_times(times, dim), get_timestep_embedding(times, dim))


def test_the_pipeline_is_imported_without_diffusers():
    code = "import sys, weightgen.pipelines.weight_pipeline; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
