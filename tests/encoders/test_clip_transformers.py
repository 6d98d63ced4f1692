import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

from weightgen import InputError
from weightgen.encoders.load import load_clip, load_encoder

TEXTS = ["What color is the object?", "red"]


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, 40, 3), dtype=np.uint8)) for h in (32, 70)]


@pytest.fixture
def folder(tmp_path, tokenizer):
    """The folder of a CLIP of the transformers library."""
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    end = tokenizer.token_to_id("[EOS]")
    text = {**tower, "vocab_size": end + 1, "max_position_embeddings": 8}
    config = CLIPConfig(
        text_config={**text, "bos_token_id": 2, "eos_token_id": end, "pad_token_id": 0},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(tmp_path / "hf")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[EOS]", bos_token="[BOS]"
    ).save_pretrained(tmp_path / "hf")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "hf")
    return tmp_path / "hf"


def test_it_embeds_as_transformers_does(folder):
    clip = load_clip(str(folder))
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    pixels = torch.stack([clip.preprocess(image) for image in pictures()])
    with torch.no_grad():
        texts = model.get_text_features(**tokenizer(TEXTS, padding=True, return_tensors="pt")).pooler_output
        normalised = clip._normalized(pixels)
        images = model.get_image_features(normalised).pooler_output
    torch.testing.assert_close(clip.encode_texts(TEXTS), texts)
    torch.testing.assert_close(clip.encode_images(pictures()), images)
    assert clip.image_dim == 12 and clip.name == f"hf-{clip.digest[:8]}"


def test_its_pixels_are_the_processors(folder):
    clip = load_clip(str(folder))
    expected = CLIPImageProcessor.from_pretrained(folder)(pictures(), return_tensors="pt").pixel_values
    found = clip._normalized(torch.stack([clip.preprocess(image) for image in pictures()]))
    step = 1 / 255 / 0.26
    assert (found - expected).abs().max() < 3 * step  # the libraries round resized pixels differently
    assert (found - expected).abs().mean() < 0.1 * step
    assert load_clip(str(folder), preprocess="squash").preprocess(pictures()[1]).shape == (3, 32, 32)


def test_settings_of_the_image_processor(folder):
    path = folder / "preprocessor_config.json"
    settings = json.loads(path.read_text()) | {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 2]}
    path.write_text(json.dumps(settings))
    blank = load_clip(str(folder))._normalized(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    torch.testing.assert_close(blank[0, :, 0, 0], torch.tensor([-0.1, -0.2, -0.15]))
    path.write_text(json.dumps(settings | {"resample": 0}))
    with pytest.raises(InputError, match="resample 0 is not supported"):
        load_clip(str(folder))
    path.unlink()
    assert load_clip(str(folder)).preprocess(pictures()[0]).shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
            "model_type 'bert': expected 'clip'",
        ),
        (lambda f: (f / "config.json").write_text("[]"), "expected 'clip'"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "expected model.safetensors"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"x" * 50),
            "is not a CLIP that transformers can read",
        ),
        (
            lambda f: [path.unlink() for path in f.glob("token*")],
            "expected a tokenizer, as tokenizer.json or",
        ),
    ],
)
def test_damaged_folders(folder, breakage, message):
    breakage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_clip(str(folder))
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="lacks 1 weights, for example text_projection.weight"):
        load_clip(str(folder))


def test_sharded_weights_are_read(folder):
    expected = load_clip(str(folder)).encode_texts(TEXTS)
    model = CLIPModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1 and not (folder / "model.safetensors").exists()
    clip = load_clip(str(folder))
    torch.testing.assert_close(clip.encode_texts(TEXTS), expected)
    clip.save_pretrained(folder.parent / "saved")
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(InputError, match="expected model.safetensors or model.safetensors.index.json"):
        load_clip(str(folder))
    torch.testing.assert_close(load_encoder(folder.parent / "saved").encode_texts(TEXTS), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_normalize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False, "do_normalize": False},
        {"do_center_crop": False, "size": {"height": 32, "width": 32}},
    ],
)
def test_steps_that_a_processor_leaves_out(settings, folder):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    clip = load_clip(str(folder))
    square = [Image.fromarray(np.asarray(pictures()[0].resize((32, 32)))), pictures()[1]]
    known = CLIPImageProcessor.from_pretrained(folder)(square, return_tensors="pt").pixel_values.float()
    found = clip._normalized(torch.stack([clip.preprocess(image) for image in square]))
    assert (found - known).abs().mean() < 0.01 * known.std()


def test_a_processor_that_does_not_resize_is_refused(folder):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_resize": False}))
    with pytest.raises(InputError, match="do_resize=false is not supported"):
        load_clip(str(folder))
