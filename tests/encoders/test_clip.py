import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file, save_file

from weightgen import InputError
from weightgen.encoders import clip_named
from weightgen.encoders.clip import CLIP
from weightgen.encoders.clip_folder import FileTokenizer, new_clip, save_clip
from weightgen.encoders.load import load_clip
from weightgen.protocols import Encoder

TEXTS = ["What color is the object?", "red", "light blue"]


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(50, 40), (33, 70), (32, 32)]
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def test_a_saved_clip_embeds_as_the_model_did(network, folder):
    clip = load_clip(str(folder))
    transform = image_transform_v2(PreprocessCfg(size=32), is_train=False)
    with torch.no_grad():
        images = network.encode_image(torch.stack([transform(image) for image in pictures()]))
        texts = network.encode_text(clip.tokenize(TEXTS))
    found_images, found_texts = clip.encode_images(pictures()), clip.encode_texts(TEXTS)
    torch.testing.assert_close(found_images, images)
    torch.testing.assert_close(found_texts, texts)
    assert clip.image_dim == clip.text_dim == 24 and found_images.dtype == torch.float32
    assert not torch.allclose(found_images.norm(dim=1), torch.ones(3), atol=0.05)  # raw
    assert not found_images.requires_grad and not clip.model.training
    assert isinstance(clip, Encoder)


def test_pixels_are_open_clips_to_the_bit(folder):
    for preprocess, mode in (("center-crop", "shortest"), ("squash", "squash")):
        clip = load_clip(str(folder), preprocess=preprocess)
        transform = image_transform_v2(PreprocessCfg(size=32, resize_mode=mode), is_train=False)
        for image in pictures():
            pixels = clip.preprocess(image)
            assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.uint8
            assert torch.equal(clip._normalized(pixels[None])[0], transform(image))


def test_images_pixels_and_normalised_pixels_embed_alike(folder):
    clip = load_clip(str(folder))
    pixels = torch.stack([clip.preprocess(image) for image in pictures()])
    expected = clip.encode_images(pictures())
    assert torch.equal(clip.encode_images(pixels), expected)
    assert torch.equal(clip.encode_images(clip._normalized(pixels)), expected)
    torch.testing.assert_close(clip.encode_images(pixels, batch_size=2), expected)
    assert clip.encode_images([]).shape == clip.encode_texts([]).shape == (0, 24)


def test_squash_sees_what_the_crop_cuts_off(folder):
    image = Image.new("RGB", (96, 32))
    image.paste((255, 255, 255), (0, 0, 20, 32))
    blank = Image.new("RGB", (96, 32))
    crop, squash = (load_clip(str(folder), preprocess=name) for name in ("center-crop", "squash"))
    assert torch.equal(*crop.encode_images([image, blank]))
    assert not torch.allclose(*squash.encode_images([image, blank]))


def test_every_kind_of_picture(folder):
    clip = load_clip(str(folder))
    grey = pictures()[0].convert("L")
    assert torch.equal(clip.preprocess(grey), clip.preprocess(grey.convert("RGB")))
    palette = pictures()[0].convert("P")
    assert torch.equal(clip.preprocess(palette), clip.preprocess(palette.convert("RGB")))


def test_tokens(folder, tokenizer):
    clip = load_clip(str(folder))
    tokens = clip.tokenize(["Red ?", "what " * 20, "zebra"])
    assert tokens.tolist() == [
        [2, 8, 12, 14, 0, 0, 0, 0],
        [2, 3, 3, 3, 3, 3, 3, 14],
        [2, 1, 14, 0, 0, 0, 0, 0],
    ]
    assert tokens.dtype == torch.int64
    torch.testing.assert_close(clip.encode_texts(["red"])[0], clip.encode_texts(["red", "what " * 20])[0])
    FileTokenizer(tokenizer, 5)
    assert tokenizer.truncation is None and tokenizer.padding is None  # a copy was changed


def test_half_precision_on_disk(network, config, tokenizer, tmp_path):
    save_clip(network, config, tokenizer, tmp_path / "half", half=True)
    stored = load_file(tmp_path / "half" / "open_clip_model.safetensors")
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16}
    clip = load_clip(str(tmp_path / "half"))
    assert clip.model.visual.conv1.weight.dtype == torch.float32
    network.half().float()
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_texts(TEXTS), network.encode_text(clip.tokenize(TEXTS)))


def test_weights_that_half_precision_cannot_hold(network, config, tokenizer, tmp_path):
    network.visual.conv1.weight.data[0] = 1e5
    with pytest.raises(InputError, match="visual.conv1.weight has values that half precision cannot hold"):
        save_clip(network, config, tokenizer, tmp_path / "half", half=True)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_computing_in_low_precision(folder, precision):
    low, full = load_clip(str(folder), precision=precision), load_clip(str(folder))
    found = low.encode_images(pictures())
    assert found.dtype == torch.float32 and not torch.equal(found, full.encode_images(pictures()))
    torch.testing.assert_close(found, full.encode_images(pictures()), atol=0.05, rtol=0.05)
    torch.testing.assert_close(low.encode_texts(TEXTS), full.encode_texts(TEXTS), atol=0.05, rtol=0.05)


def test_the_name_tells_weights_apart(folder, tmp_path):
    clip = load_clip(str(folder))
    assert clip.name == f"tiny-clip-{clip.digest[:8]}"
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert load_clip(str(moved)).digest == clip.digest
    assert load_clip(str(folder), precision="bf16").name == f"{clip.name}-bf16"
    assert load_clip(str(folder), precision="bf16").digest == clip.digest
    squash = load_clip(str(folder), preprocess="squash")
    assert squash.name == f"tiny-clip-squash-{squash.digest[:8]}" and squash.digest != clip.digest
    path = moved / "open_clip_model.safetensors"
    tensors = load_file(path)
    tensors["ln_final.bias"][3] += 1e-3
    save_file(tensors, path)
    assert load_clip(str(moved)).digest != clip.digest
    words = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(
        words.replace('"red": 8', '"red": 9').replace('"green": 9', '"green": 8')
    )
    assert load_clip(str(folder)).digest != clip.digest


def test_a_timm_tower_and_own_preprocessing(config, tokenizer, tmp_path):
    config["vision_cfg"] = {"timm_model_name": "test_resnet", "timm_pool": "avg", "image_size": 40}
    config["custom_text"] = True
    model = new_clip(config, tokenizer)
    assert isinstance(model, open_clip.CustomTextCLIP)
    pixels = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    save_clip(model, config, tokenizer, tmp_path / "timm", pixels=pixels)
    clip = load_clip(str(tmp_path / "timm"))
    transform = image_transform_v2(PreprocessCfg(size=40, **pixels), is_train=False)
    batch = torch.stack([transform(image) for image in pictures()])
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_images(pictures()), model.eval().encode_image(batch))


def test_a_new_clip_is_trainable_and_leaves_its_configuration_alone(config, tokenizer):
    before = json.dumps(config)
    model = new_clip(config, tokenizer)
    assert json.dumps(config) == before and model.training
    images, texts, scale = model(torch.rand(3, 3, 32, 32), FileTokenizer(tokenizer, 8)(TEXTS))
    (scale * images @ texts.T).diagonal().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_folder_without_a_tokenizer_uses_clips_own(config, tmp_path):
    config["text_cfg"] |= {"vocab_size": 49408, "context_length": 77, "width": 8}
    save_clip(new_clip(config), config, None, tmp_path / "plain")
    assert torch.equal(load_clip(str(tmp_path / "plain")).tokenize(TEXTS), open_clip.tokenize(TEXTS))


# Wrong input


def edit(folder, **changes):
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        part, name = key.split("__")
        content["model_cfg"][part][name] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda f: (f / "open_clip_config.json").unlink(), "holds no CLIP: expected open_clip_config.json"),
        (lambda f: (f / "open_clip_config.json").write_text("{"), "is not a JSON file"),
        (lambda f: (f / "open_clip_config.json").write_text("{}"), "is not open_clip's: expected embed_dim"),
        (lambda f: (f / "open_clip_config.json").write_text("[]"), "is not open_clip's: expected embed_dim"),
        (lambda f: edit(f, text_cfg__wdth=3), "cannot build a model from this configuration: .*wdth"),
        (lambda f: edit(f, text_cfg__layers=2), "does not hold the weights of this CLIP: .*resblocks.1"),
        (lambda f: edit(f, vision_cfg__patch_size=16), "does not hold the weights of this CLIP"),
        (
            lambda f: edit(f, text_cfg__vocab_size=9),
            "the tokenizer has 15 tokens, the model only vocab_size=9",
        ),
        (lambda f: edit(f, text_cfg__hf_tokenizer_name="x"), "has no tokenizer that can be used"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is not a tokenizer"),
        (lambda f: (f / "tokenizer.json").unlink(), "needs its tokenizer.json, which is missing"),
        (
            lambda f: (f / "open_clip_model.safetensors").write_bytes(b"x" * 99),
            "is truncated or not a safetensors file",
        ),
        (
            lambda f: (f / "open_clip_model.safetensors").unlink(),
            "expected open_clip_model.safetensors, no weights",
        ),
        (
            lambda f: (f / "open_clip_model.safetensors").rename(f / "open_clip_pytorch_model.bin"),
            "found open_clip_pytorch_model.bin, which may run code when loaded",
        ),
    ],
)
def test_damaged_folders(folder, breakage, message):
    breakage(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_clip(str(folder))
    assert "\n" not in str(caught.value)


def test_an_end_token_that_argmax_does_not_find(config, tokenizer):
    tokenizer.add_tokens(["later"])
    config["text_cfg"]["vocab_size"] += 1
    with pytest.raises(InputError, match="does not end a text with the highest id"):
        new_clip(config, tokenizer)


def test_an_existing_folder_is_not_replaced_unasked(network, config, tokenizer, folder):
    with pytest.raises(InputError, match="exists already"):
        save_clip(network, config, tokenizer, folder)
    save_clip(network, config, tokenizer, folder, overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "ViT-L-14-336"}, r"ViT-L-14-336 without weights: add .*pretrained=TAG \(known: openai\)"),
        ({"model": "ViT-B/32"}, r"ViT-B-32 without weights: .*laion2b_s34b_b79k"),
        ({"model": "ViT-B-33", "pretrained": "openai"}, "neither a folder nor a model .* ViT-B-32"),
        ({"model": "some/folder"}, "neither a folder nor a model"),
        (
            {"model": "ViT-L-14-336", "pretrained": "x"},
            "knows no weights 'x' for ViT-L-14-336: choose one of openai",
        ),
        ({"model": "RN50", "pretrained": "openai", "random_weights": True}, "contradict each other"),
        (
            {"model": "RN50", "pretrained": "openai"},
            "cannot be downloaded .*: connect to the network once, or give",
        ),
        ({"pretrained": "openai"}, "a folder with weights of its own"),
        ({"random_weights": True}, "a folder with weights of its own"),
        ({"precision": "fp8"}, "unknown precision 'fp8': choose one of fp32, fp16, bf16"),
        ({"preprocess": "pad"}, "unknown preprocess 'pad': choose one of center-crop, squash"),
        ({"device": "gpu"}, "no device 'gpu' here"),
    ],
)
def test_wrong_arguments(folder, arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        load_clip(**{"model": str(folder), **arguments})
    assert "\n" not in str(caught.value)


def test_the_activation_is_that_of_the_weights(monkeypatch):
    built = {}

    def stop(name, config, tag):
        built[name] = config["quick_gelu"]
        raise OSError("no download")

    monkeypatch.setattr(clip_named, "_network", stop)
    for model, tag in (
        ("ViT-L-14-336", "openai"),
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("RN50-quickgelu", "openai"),
    ):
        with pytest.raises(InputError, match="no download"):
            load_clip(model, tag)
    assert built == {"ViT-L-14-336": True, "ViT-B-32": False, "RN50-quickgelu": True}


def test_random_weights_only_when_asked_for_and_the_same_every_time():
    state = torch.get_rng_state()
    one = load_clip("ViT-S-32-alt", random_weights=True)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    other = load_clip("ViT-S-32-alt", random_weights=True)
    assert one.digest == other.digest and one.name == f"vit-s-32-alt-random-{one.digest[:8]}"
    assert isinstance(one, CLIP) and one.encode_images(pictures()).shape == (3, one.image_dim) == (3, 256)
    assert torch.equal(one.tokenize(TEXTS), open_clip.get_tokenizer("ViT-S-32-alt")(TEXTS))
