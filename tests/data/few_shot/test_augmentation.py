"""Augmentation: each change alone does what its formula says, and a step's draws are a function of (seed, step)."""

import numpy as np
import pytest
import torch

from weightgen import InputError
from weightgen.data.few_shot.arrays import FewShotArrays, write_few_shot_arrays
from weightgen.data.few_shot.augmentation import Augmentation
from weightgen.data.few_shot.episodes import Episodes

B, N, SIDE = 3, 50, 12
NONE = {"flip": False, "crop": 1.0, "hue": 0.0, "brightness": 0.0, "contrast": 0.0}


def changed(pixels, seed=0, **options):
    return Augmentation(**(NONE | options)).change(pixels, np.random.default_rng(seed))


@pytest.fixture
def pixels():
    return 0.3 + 0.4 * torch.rand(B, N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_nothing_is_changed_without_a_change(pixels):
    torch.testing.assert_close(changed(pixels), pixels, atol=1e-6, rtol=0)


def test_about_half_of_the_images_are_flipped(pixels):
    made = changed(pixels, flip=True)
    same, turned = ((made - other).abs().amax((2, 3, 4)) < 1e-5 for other in (pixels, pixels.flip(-1)))
    assert (same ^ turned).all() and 0.35 < turned.float().mean() < 0.65


@pytest.mark.parametrize("axis", [3, 4])
def test_a_crop_is_a_square_that_is_scaled_back(axis):
    """On a ramp the slope of the result is the side of the crop, and what it begins with its place."""
    ramp = (torch.arange(SIDE) + 0.5) / SIDE
    image = ramp[:, None].expand(SIDE, SIDE) if axis == 3 else ramp.expand(SIDE, SIDE)
    made = changed(image.expand(B, N, 3, SIDE, SIDE), crop=0.6)
    inner = made.movedim(axis, -1)[..., 0, :].mean(2)[:, :, 2:-2]  # the border repeats the outermost pixels
    sides = inner.diff(dim=-1).mean(-1) * SIDE
    assert 0.6 <= sides.min() < 0.65 and 0.95 < sides.max() <= 1
    middle = inner.mean(-1)
    assert ((middle - 0.5).abs() <= (1 - sides) / 2 + 1e-5).all() and middle.std() > 0.05


def test_hue_turns_the_colours_of_a_set_and_keeps_their_value_and_greyness(pixels):
    made = changed(pixels, hue=0.2)
    for extreme in (torch.amax, torch.amin):
        torch.testing.assert_close(extreme(made, 2), extreme(pixels, 2), atol=1e-4, rtol=0)
    assert (made - pixels).abs().amax((1, 2, 3, 4)).min() > 0.01
    grey = pixels[:, :, :1].expand_as(pixels)
    torch.testing.assert_close(changed(grey, hue=0.2), grey, atol=1e-5, rtol=0)


def test_brightness_is_added_to_a_set(pixels):
    added = (changed(pixels, brightness=0.3) - pixels).flatten(1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added), atol=1e-5, rtol=0)
    assert added[:, 0].abs().max() <= 0.3 and len(set(added[:, 0].tolist())) == B


def test_contrast_scales_the_difference_from_the_mean(pixels):
    mean = pixels.mean((3, 4), keepdim=True)
    factors = (((changed(pixels, contrast=0.2) - mean) / (pixels - mean)).flatten(1)).median(1).values
    assert (0.8 <= factors).all() and (factors <= 1.2).all() and len(set(factors.tolist())) == B
    expected = mean + factors.reshape(B, 1, 1, 1, 1) * (pixels - mean)
    torch.testing.assert_close(changed(pixels, contrast=0.2), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "wrong", [{"crop": 0}, {"crop": 1.5}, {"hue": 0.6}, {"brightness": -1}, {"contrast": 2}]
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_grey_images_have_no_hue():
    with pytest.raises(InputError, match="write hue: 0"):
        changed(torch.rand(1, 2, 1, 8, 8), hue=0.2)
    assert changed(torch.rand(1, 2, 1, 8, 8), crop=0.6, contrast=0.2).shape == (1, 2, 1, 8, 8)


def test_episodes_are_a_function_of_seed_and_step(tmp_path):
    """And the query sets of a task are changed anew, as they are drawn anew."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    splits = {"train": range(4)}
    write_few_shot_arrays(tmp_path / "a", images, np.repeat(np.arange(4), 10), list("abcd"), splits, {})
    arrays = FewShotArrays(tmp_path / "a")
    options = {"ways": 2, "shots": 1, "queries": 2, "batch_size": 2, "mean": 0.0, "std": 255.0}
    plain = Episodes(arrays, arrays.classes("train"), **options)
    episodes = Episodes(arrays, arrays.classes("train"), augment=Augmentation(), **options)
    one, again, other, without = episodes.batch(3), episodes.batch(3), episodes.batch(4), plain.batch(3)
    assert torch.equal(one.support.inputs, again.support.inputs)
    assert torch.equal(one.query.inputs, again.query.inputs)
    assert torch.equal(one.support.labels, without.support.labels)
    for part in (other, without):
        assert not torch.allclose(one.support.inputs, part.support.inputs, atol=0.02)
        assert not torch.allclose(one.query.inputs, part.query.inputs, atol=0.02)
    assert 0 <= one.query.inputs.min() and one.query.inputs.max() <= 1
