"""Every encoder of the library fulfils `protocols.Encoder`: lengths, batches, and a saved folder that can be moved."""

import inspect
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import weightgen.encoders.clip
import weightgen.encoders.paired
import weightgen.encoders.token_encoder
from tests.tiny import CONFIG, tiny_clip
from tests.towers import tiny_paired, tiny_text_tower
from weightgen import Encoder, InputError
from weightgen.encoders.clip_folder import new_clip, save_clip
from weightgen.encoders.load import load_clip, load_encoder
from weightgen.encoders.token_encoder import TokenEncoder
from weightgen.storage.files import read_json, write_json

TEXTS = ["What color is the star?", "red", "the moon is blue ."]


def hugging_face_clip(folder):
    """A CLIP of open_clip whose text tower is a model of transformers, named by an absolute path."""
    text = {"hf_model_name": str(tiny_text_tower(folder / "text")), "hf_tokenizer_name": str(folder / "text")}
    text |= {"hf_pooler_type": "mean_pooler", "hf_proj_type": "linear", "context_length": 12}
    config = {**CONFIG, "text_cfg": text}
    save_clip(new_clip(config), config, None, folder / "clip")
    for path in (folder / "text").glob("tokenizer*"):
        shutil.copy(path, folder / "clip")
    return load_clip(str(folder / "clip"))


MADE = {
    "CLIP in a folder": lambda folder: load_clip(str(tiny_clip(folder / "clip"))),
    "CLIP, squashing": lambda folder: load_clip(str(tiny_clip(folder / "clip")), preprocess="squash"),
    "CLIP with a text tower of transformers": hugging_face_clip,
    "CLIP by name": lambda folder: load_clip("ViT-S-32-alt", random_weights=True),
    "PairedEncoder": tiny_paired,
    "TokenEncoder": lambda folder: TokenEncoder.fit(
        load_clip(str(tiny_clip(folder / "clip"))), pictures(), grid=2, dim=3
    ),
}


@pytest.fixture(params=list(MADE))
def made(request, tmp_path):
    """An encoder, with the folder that its files lie in."""
    (tmp_path / "source").mkdir()
    return MADE[request.param](tmp_path / "source"), tmp_path / "source"


def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in [(50, 40), (33, 70)]]


def embedded(encoder):
    return [encoder.encode_images(pictures()), encoder.encode_texts(TEXTS), encoder.encode_questions(TEXTS)]


def test_every_encoder_is_here(tmp_path):
    homes = (weightgen.encoders.clip, weightgen.encoders.paired, weightgen.encoders.token_encoder)
    classes = {
        each
        for home in homes
        for _, each in inspect.getmembers(home, inspect.isclass)
        if each.__module__ == home.__name__
    }
    assert {each.__name__ for each in classes} == {"CLIP", "PairedEncoder", "TokenEncoder"}


def test_lengths_batches_and_gradients(made):
    encoder, _ = made
    assert isinstance(encoder, Encoder) and encoder.name == encoder.name.lower() and len(encoder.digest) == 64
    dims = (encoder.image_dim, encoder.text_dim, encoder.question_dim)
    for found, count, dim in zip(embedded(encoder), (2, 3, 3), dims, strict=True):
        assert found.shape == (count, dim) and found.dtype == torch.float32 and not found.requires_grad
        assert found.std(dim=0).max() > 0  # different inputs, different embeddings
    for embed, items in (
        (encoder.encode_images, pictures()),
        (encoder.encode_texts, TEXTS),
        (encoder.encode_questions, TEXTS),
    ):
        assert_close(torch.cat([embed([item]) for item in items]), embed(items), atol=1e-4, rtol=1e-4)
        assert embed([]).shape[0] == 0


def test_a_saved_encoder_can_be_moved_and_embeds_alike(made, tmp_path):
    encoder, source = made
    expected = embedded(encoder)
    encoder.save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match="exists already"):
        encoder.save_pretrained(tmp_path / "saved")
    shutil.rmtree(source)
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "saved", moved)
    for path in moved.rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path
    loaded = load_encoder(moved)
    assert type(loaded) is type(encoder) and loaded.digest == encoder.digest
    for found, known in zip(embedded(loaded), expected, strict=True):
        assert torch.equal(found, known)


def test_another_digest_is_refused(made, tmp_path):
    encoder, _ = made
    encoder.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved/encoder.json"
    record = read_json(path)
    (record.get("image_tower") or record)["digest"] = "0" * 64
    write_json(path, record)
    with pytest.raises(InputError, match="another .*digest is 0000"):
        load_encoder(tmp_path / "saved")
    write_json(path, {**record, "class": "my.module.Encoder"})
    with pytest.raises(InputError, match="trust_remote_code"):
        load_encoder(tmp_path / "saved")
