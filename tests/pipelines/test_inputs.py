"""Questions, examples, or both: what a pipeline makes of each, and wrong use in one line each."""

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from torch.testing import assert_close

from tests.tiny import E, Z, tiny_pipeline
from weightgen import InputError
from weightgen.hypernets import SupportHNet
from weightgen.pipelines.inputs import guided_condition
from weightgen.pipelines.support_sets import check_support_set, support_list
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.priors import DiffusionPrior, MLPDenoiser

STAR, MOON = "What color is the star?", "What shape is the moon?"
COLORS = ["red", "green"]
D = 3


def picture(color, size=(40, 32)):
    return Image.new("RGB", size, color)


IMAGES = [picture("red"), picture("green"), picture("darkred", (20, 50))]
SUPPORT = (IMAGES, ["red", "green", "red"])
OTHER = ([picture("blue"), picture("white")], [0, 1])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pipe(plain):
    """The same with a denoiser that knows support sets."""
    support = SupportHNet.for_network(plain.network, dim=8, heads=2, rounds=2, step=0.1, embed_dim=D)
    support.fit(support.base + torch.randn(20, plain.space.size))
    denoiser = MLPDenoiser(Z, E, hidden_dims=(32, 32), time_dim=8, support_dim=D)
    denoiser.embeds.load_state_dict(plain.prior.denoiser.embeds.state_dict())
    denoiser.supports.fit(0.1 * torch.randn(20, D))
    prior = DiffusionPrior(denoiser, DDIMScheduler(num_train_timesteps=50, clip_sample=False))
    prior.latents.load_state_dict(plain.prior.latents.state_dict())
    return WeightPipeline(plain.encoder, prior, plain.hypernet, plain.network, "{}", support=support)


def sample(pipe, prompt=None, **settings):
    return pipe(prompt, COLORS, generator=torch.Generator().manual_seed(0), num_inference_steps=4, **settings)


def test_text_examples_and_both_differ(pipe):
    found = [
        sample(pipe, STAR), sample(pipe, support=SUPPORT), sample(pipe, STAR, support=SUPPORT),
        sample(pipe, MOON, support=SUPPORT), sample(pipe, STAR, support=OTHER),
        sample(pipe, STAR, support=SUPPORT, guidance_scale=3.0),
        sample(pipe, STAR, support=SUPPORT, support_guidance_scale=3.0),
    ]  # fmt: skip
    for i, one in enumerate(found):
        assert one.weights.shape == (1, 1, pipe.space.size)
        for other in found[:i]:
            assert not torch.allclose(one.weights, other.weights, atol=1e-3)
    assert found[1].prompts == [""] and found[1].templates == ["{}"]
    assert found[1].classifier().predict(IMAGES)[0] in COLORS
    assert "support_guidance_scale" not in found[0].info and found[2].info["support_guidance_scale"] == 2.0


def test_scales_of_zero_ignore_what_they_scale(pipe):
    nothing = sample(pipe, STAR, guidance_scale=0).weights
    assert_close(sample(pipe, support=SUPPORT, support_guidance_scale=0).weights, nothing)
    text = sample(pipe, STAR)
    assert_close(sample(pipe, STAR, support=SUPPORT, support_guidance_scale=0).weights, text.weights)


def test_labels_paths_and_order_do_not_matter(pipe, tmp_path):
    expected = sample(pipe, support=SUPPORT).weights
    paths = []
    for number, image in enumerate(IMAGES):
        image.save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    for support in (
        (IMAGES, [0, 1, 0]), (IMAGES, torch.tensor([0, 1, 0])), ([str(paths[0]), *paths[1:]], [0, "green", 0]),
        (IMAGES[::-1], SUPPORT[1][::-1]),
    ):  # fmt: skip
        assert_close(sample(pipe, support=support).weights, expected, atol=1e-4, rtol=1e-4)


def test_one_support_set_for_all_prompts_or_one_for_each(pipe):
    both = sample(pipe, [STAR, MOON], support=[SUPPORT, OTHER]).weights
    for row, (prompt, support) in enumerate([(STAR, SUPPORT), (MOON, OTHER)]):
        assert_close(both[row], sample(pipe, prompt, support=support).weights[0], atol=1e-4, rtol=1e-4)
    shared = sample(pipe, [STAR, MOON], support=SUPPORT).weights
    assert_close(shared[1], sample(pipe, MOON, support=SUPPORT).weights[0], atol=1e-4, rtol=1e-4)
    assert sample(pipe, support=[SUPPORT, OTHER]).weights.shape == (2, 1, pipe.space.size)


def test_support_is_saved_and_loaded(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = WeightPipeline.from_pretrained(tmp_path / "pipe")
    given = sample(loaded, STAR, support=SUPPORT)
    assert torch.equal(given.weights, sample(pipe, STAR, support=SUPPORT).weights)
    given.save(tmp_path / "w.safetensors")
    assert loaded.load_weights(tmp_path / "w.safetensors").info == given.info


def test_a_pipeline_of_questions_only_has_no_part_for_examples(plain, tmp_path):
    plain.save_pretrained(tmp_path / "plain")
    assert not (tmp_path / "plain/support").exists()
    with pytest.raises(InputError, match="takes questions only.*support="):
        sample(plain, STAR, support=SUPPORT)
    with pytest.raises(InputError, match="takes questions only"):
        plain.sample(torch.randn(1, E), support_embeds=torch.randn(1, D))


def test_parts_must_fit(plain, pipe):
    for prior, support, lengths in ((plain.prior, pipe.support, "3, .* 0"), (pipe.prior, None, "0, .* 3")):
        with pytest.raises(InputError, match=f"length {lengths}"):
            WeightPipeline(plain.encoder, prior, plain.hypernet, plain.network, support=support)


@pytest.mark.parametrize(
    ("support", "message"),
    [
        (([], []), "no labelled example"),
        ((IMAGES, [None] * 3), "no labelled example"),
        ((IMAGES, [0, None, 1]), "example 1 of the support set has no label"),
        ((IMAGES, [0, 1]), "3 images and 2 labels"),
        ((IMAGES, [0, 1, 2]), "example 2 .* the label 2, but answers have the numbers 0 to 1"),
        ((IMAGES, [0, 1, -1]), "the label -1"),
        ((IMAGES, [0, 1, "blue"]), r"labelled 'blue', which is none of \['red', 'green'\]"),
        ((IMAGES, [0, 1, 0.5]), "label 0.5: give an answer or its number"),
        ((IMAGES, [0, 1, True]), "label True"),
        ((IMAGES, [0, 0, 0]), "the answer 'green' has no example"),
        (
            (["no such.png", *IMAGES[1:]], [0, 1, 0]),
            "example 0 .* no such.png is not an image that can be read",
        ),
        (([torch.zeros(3, 32, 32), *IMAGES[1:]], [0, 1, 0]), "example 0 .* got a Tensor: give a PIL image"),
        ((IMAGES[0], [0]), "support takes lists"),
        ((IMAGES, "red"), "support takes lists"),
        (IMAGES, r"support must be \(images, labels\)"),
        ((IMAGES, [0, 1, 0], 3), r"support must be \(images, labels\)"),
        ([SUPPORT, SUPPORT], "one for each of 1 prompts, got 2"),
        ([], "got 0"),
    ],
)
def test_wrong_examples(pipe, support, message):
    with pytest.raises(InputError, match=message) as caught:
        sample(pipe, STAR, support=support)
    assert "\n" not in str(caught.value)


def test_other_wrong_use(pipe):
    with pytest.raises(InputError, match="examples need the answers"):
        pipe(support=SUPPORT)
    with pytest.raises(InputError, match=r"give either a prompt or prompt_embeds, or examples"):
        pipe(answers=COLORS)
    with pytest.raises(InputError, match="support_guidance_scale must be a finite number"):
        sample(pipe, STAR, support=SUPPORT, support_guidance_scale=float("nan"))
    with pytest.raises(InputError, match="nothing to sample for"):
        guided_condition((E, D), None, None, 1.5, 2.0)
    pipe.template = None
    try:
        with pytest.raises(InputError, match="answers need a template"):
            sample(pipe, support=SUPPORT)
    finally:
        pipe.template = "{}"


def test_a_denoiser_of_two_parts_gets_zeros_for_what_is_missing():
    text, support = torch.randn(2, E), torch.randn(2, D)
    assert torch.equal(guided_condition((E,), text, None, 1.5, 2.0).embeds, text)
    assert torch.equal(
        guided_condition((E, D), text, support, 1.5, 2.0).embeds, torch.cat([text, support], dim=1)
    )
    assert torch.equal(guided_condition((E, D), None, support, 1.5, 2.0).embeds[:, E:], support)
    assert not guided_condition((E, D), None, support, 1.5, 2.0).embeds[:, :E].any()
    assert not guided_condition((E, D), text, None, 1.5, 2.0).embeds[:, E:].any()


@pytest.mark.parametrize("support", [8, {}, "ab", (8, 8), ([None], 8)])
def test_examples_that_are_no_lists(support):
    with pytest.raises(InputError, match="support"):
        check_support_set(support_list(support, 1)[0], ["red", "green"])
