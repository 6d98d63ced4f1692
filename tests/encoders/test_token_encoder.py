import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d
from torch.testing import assert_close

from tests.tiny import tiny_clip
from tests.towers import tiny_paired
from weightgen import InputError
from weightgen.encoders.clip_folder import new_clip, save_clip
from weightgen.encoders.load import load_clip, load_encoder
from weightgen.encoders.token_encoder import TokenEncoder
from weightgen.protocols import Encoder

RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}


def pictures(number=6, side=64):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)) for _ in range(number)]


@pytest.fixture
def resnet(config, tokenizer, tmp_path):
    config["vision_cfg"] = RESNET
    save_clip(new_clip(config, tokenizer).eval(), config, tokenizer, tmp_path / "resnet")
    return load_clip(str(tmp_path / "resnet"))


def test_an_image_is_its_embedding_and_its_tokens(resnet):
    encoder = TokenEncoder.fit(resnet, pictures(), grid=8, dim=5)
    features = encoder.encode_images(pictures())
    assert features.shape == (6, encoder.image_dim) and encoder.image_dim == 24 + 64 * 5
    assert_close(features[:, :24], resnet.encode_images(pictures()))
    tower = resnet.model.visual
    with torch.no_grad():
        pixels = resnet._normalized(torch.stack([resnet.preprocess(image) for image in pictures()]))
        second = tower.layer2(tower.layer1(tower.stem(pixels)))
    assert second.shape[-2:] == (8, 8)  # the second stage of a tower for 64 pixels
    tokens = (second.movedim(1, -1).flatten(1, 2) - encoder.mean) @ encoder.components
    assert_close(features[:, 24:], tokens.flatten(1), rtol=1e-4, atol=1e-4)


def test_components_are_principal_and_of_variance_one_on_average(resnet):
    encoder = TokenEncoder.fit(resnet, pictures(), grid=8, dim=5)
    tokens = encoder.encode_images(pictures())[:, 24:].reshape(-1, 5)
    covariance = tokens.T @ tokens / len(tokens)
    variances = covariance.diagonal()
    assert_close(covariance, variances.diag(), atol=1e-3, rtol=0)
    assert variances.mean().item() == pytest.approx(1, abs=1e-3)
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)


def test_saved_and_loaded(resnet, tmp_path):
    encoder = TokenEncoder.fit(resnet, pictures(), grid=4, dim=5)
    encoder.save_pretrained(tmp_path / "saved")
    again = load_encoder(tmp_path / "saved")
    assert isinstance(again, TokenEncoder) and isinstance(again, Encoder)
    assert again.digest == encoder.digest != resnet.digest and again.token_shape == (16, 5)
    assert torch.equal(again.encode_images(pictures()), encoder.encode_images(pictures()))
    assert torch.equal(again.encode_questions(["red"]), resnet.encode_texts(["red"]))
    assert torch.equal(
        encoder.encode_images(pictures(), batch_size=4)[:4], encoder.encode_images(pictures()[:4])
    )


def test_vits_and_pairs_have_maps_too(tmp_path):
    clip = load_clip(str(tiny_clip(tmp_path / "vit")))
    pair = tiny_paired(tmp_path / "pair")
    for base, grid in ((clip, 4), (clip, 2), (pair, 2)):
        embeds, maps = base.encode_maps(pictures(), grid)
        assert_close(embeds, base.encode_images(pictures()))
        assert maps.shape[0] == 6 and maps.shape[-2:] == (grid, grid)
    # A coarser grid is the finer one's average.
    assert_close(
        adaptive_avg_pool2d(clip.encode_maps(pictures(), 4)[1], 2), clip.encode_maps(pictures(), 2)[1]
    )


def test_what_has_no_map_is_refused(resnet, tmp_path):
    class Bare:
        image_dim = text_dim = question_dim = 3
        digest = name = "bare"

    with pytest.raises(InputError, match="Bare has no map"):
        TokenEncoder.fit(Bare(), pictures())
    clip = load_clip(str(tiny_clip(tmp_path / "vit")))
    with pytest.raises(InputError, match="write tokens=4 or less, got 8"):
        TokenEncoder.fit(clip, pictures(), grid=8)
    with pytest.raises(InputError, match="principal components"):
        TokenEncoder.fit(resnet, pictures(), grid=8, dim=500)


def test_a_changed_part_is_noticed(resnet, tmp_path):
    encoder = TokenEncoder.fit(resnet, pictures(), grid=4, dim=5)
    encoder.save_pretrained(tmp_path / "one")
    TokenEncoder.fit(resnet, pictures(), grid=4, dim=4).save_pretrained(tmp_path / "two")
    (tmp_path / "one" / "components.safetensors").write_bytes(
        (tmp_path / "two" / "components.safetensors").read_bytes()
    )
    with pytest.raises(InputError, match="digest"):
        load_encoder(tmp_path / "one")
