"""One reader of pictures: each kind of file must look as a screen shows it."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from weightgen import InputError
from weightgen.storage.images import is_stray, member_path, read_image, to_rgb

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def stored(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


def test_a_turned_photo_is_upright():
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = (200, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    found = read_image(stored(Image.fromarray(pixels), "PNG", exif=exif))
    assert found.size == (8, 16)
    assert found.getpixel((4, 2)) == (200, 0, 0) and found.getpixel((4, 12)) == (0, 0, 0)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(form):
    wide = RAMP.astype(np.uint16) * 257
    found = np.asarray(read_image(stored(Image.fromarray(wide), form)))
    assert found.shape == (16, 16, 3) and (found == RAMP[..., None]).all()
    dark = np.asarray(read_image(stored(Image.fromarray(np.full((4, 4), 200, np.uint16)), form)))
    assert dark.max() == 1  # 200 of 65535, not 200 of 255


def test_floats_are_scaled():
    found = np.asarray(read_image(stored(Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF")))
    assert (found == RAMP[..., None]).all()
    whole = np.asarray(to_rgb(Image.fromarray(RAMP.astype(np.float32))))
    assert (whole == RAMP[..., None]).all()
    assert (np.asarray(to_rgb(Image.fromarray(RAMP.astype(np.int32)))) == RAMP[..., None]).all()


@pytest.mark.parametrize("values", [np.nan, -1.0, 1e6])
def test_values_without_a_clear_range_are_refused(values):
    with pytest.raises(InputError, match="finite, and from 0"):
        read_image(stored(Image.fromarray(np.full((4, 4), values, np.float32)), "TIFF"))


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert read_image(stored(clear, "PNG")).getpixel((1, 1)) == (255, 255, 255)
    half = read_image(stored(Image.new("LA", (4, 4), (0, 128)), "PNG"))
    assert half.getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    assert read_image(stored(palette, "PNG", transparency=0)).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(stored(palette, "PNG")).getpixel((0, 0)) == (10, 20, 30)


def test_cmyk_grey_and_the_first_frame():
    cmyk = read_image(stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert cmyk.mode == "RGB" and cmyk.getpixel((0, 0)) == (255, 0, 0)
    assert read_image(stored(Image.new("1", (8, 8), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    moving = stored(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(moving).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_are_ignored():
    found = to_rgb(
        read_image(stored(Image.new("RGB", (8, 8), "red"), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\xff"))
    )
    assert found.size == (8, 8)


def test_what_is_no_picture_is_refused_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    whole = stored(Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)), "JPEG").getvalue()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("half.jpg", "text.png", "nothing.png", "."):
        with pytest.raises(InputError, match="is not an image that can be read") as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_a_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="has more than 100 pixels"):
        read_image(stored(Image.new("RGB", (20, 20)), "PNG"))


def test_a_profile_that_is_not_one_of_inks_does_no_harm():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for given in (b"junk", profile):
        assert read_image(stored(cmyk, "TIFF", icc_profile=given)).getpixel((0, 0)) == (255, 0, 0)


def test_another_background():
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert read_image(stored(clear, "PNG"), background="black").getpixel((0, 0)) == (0, 0, 0)


def test_names():
    for name in ("._0.png", "a/.ipynb_checkpoints/0.png", "__MACOSX/a.png", "a/Thumbs.db", ".DS_Store"):
        assert is_stray(name), name
    for name in ("a.png", "./a.png", "../a/b.png", "a.b/c.png"):
        assert not is_stray(name), name
    assert {str(member_path(n)) for n in ("./a/b.png", "a//b.png", r"a\b.png", "/a/b.png")} == {"a/b.png"}
