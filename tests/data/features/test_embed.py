import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from weightgen import InputError
from weightgen.data.features.embed import embed_images, embed_texts, names_to_embed
from weightgen.data.features.images import ImageStore
from weightgen.data.features.store import FeatureStore
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.encoders.load import load_clip
from weightgen.protocols import Encoder

NAMES = [f"image{i:02d}" for i in range(21)]
TEXTS = ["what color is the object?", *"red green blue object is".split()]


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i, name in enumerate(NAMES):
        array = rng.integers(0, 256, (30 + i, 50, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / "images" / f"{name}.{'png' if i % 2 else 'jpg'}")
    return ImageStore(tmp_path / "images")


def embed(target, encoder, images, workers=1, shards=None, **options):
    plan = FeaturePlan("e", NAMES, TEXTS[:1], TEXTS[1:], "single", batch_size=4, shard_size=10)
    writer = FeatureWriter(target, plan)
    assert writer.begin()
    left = writer.unfinished() if shards is None else shards
    embed_texts(writer, encoder, [shard for shard in left if shard[0] != "images"], workers)
    numbers = [number for kind, number in left if kind == "images"]
    embed_images(writer, encoder, images, numbers, workers=workers, **options)
    return writer


def finished(writer):
    writer.finish({})
    return FeatureStore(writer.folder)


def test_each_name_has_its_own_embedding(folder, images, tmp_path):
    clip = load_clip(str(folder))
    store = finished(embed(tmp_path / "x", clip, images))
    for number, name in enumerate(NAMES):
        row = store.embeds("images", store.rows("images", [name]))
        torch.testing.assert_close(row, clip.encode_images([images.open(name)]))
        assert number == store.rows("images", [name])
    for kind, texts in (("questions", TEXTS[:1]), ("answers", TEXTS[1:])):
        torch.testing.assert_close(store.embeds(kind, store.rows(kind, texts)), clip.encode_texts(texts))


def test_the_same_bytes_with_any_threads_and_any_share_of_the_work(folder, images, tmp_path):
    clip = load_clip(str(folder))
    one = finished(embed(tmp_path / "one", clip, images, workers=1)).folder
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    writer = embed(tmp_path / "two", clip, images, workers=5, shards=[("images", 2), ("answers", 0)])
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    embed(tmp_path / "two", clip, images, workers=2)
    two = finished(writer).folder
    files = sorted(path.name for path in one.iterdir())
    assert files == sorted(path.name for path in two.iterdir()) and len(files) == 7
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_progress_counts_images(folder, images, tmp_path):
    counts = []
    embed(tmp_path / "x", load_clip(str(folder)), images, progress=counts.append)
    assert counts == [4, 4, 2, 4, 4, 2, 1]


def test_broken_images_stop_their_shard_or_are_left_out(folder, images, tmp_path):
    clip = load_clip(str(folder))
    whole = finished(embed(tmp_path / "whole", clip, images))
    for name in (NAMES[3], NAMES[20]):  # the second is all of the last shard
        path = next((tmp_path / "images").glob(f"{name}.*"))
        path.write_bytes(path.read_bytes()[:40])
    writer = embed(tmp_path / "x", clip, images)
    assert sorted(writer.failures()) == [NAMES[3], NAMES[20]]
    assert all("cannot be decoded" in reason for reason in writer.failures().values())
    assert writer.unfinished() == [("images", 0), ("images", 2)]
    store = finished(embed(tmp_path / "x", clip, images, workers=3, skip_broken=True))
    assert sorted(store.failed) == [NAMES[3], NAMES[20]]
    kept = [name for name in NAMES if name not in store.failed]
    found = store.embeds("images", store.rows("images", kept))
    torch.testing.assert_close(found, whole.embeds("images", whole.rows("images", kept)))


def test_an_error_in_a_thread_is_raised(folder, images, tmp_path, monkeypatch):
    clip = load_clip(str(folder))

    def fail(image):
        raise RuntimeError("a bug, not a broken image")

    monkeypatch.setattr(clip, "preprocess", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        embed(tmp_path / "x", clip, images, workers=3)


class Own(Encoder):
    """A bring-your-own encoder: images by their mean colour, texts by their length, questions by their words."""

    name, digest, image_dim, text_dim = "own", "0123", 3, 2

    @property
    def question_dim(self):
        return 1

    def encode_images(self, images):
        return torch.stack(
            [torch.tensor(np.asarray(image, dtype=np.float32).mean((0, 1))) for image in images]
        )

    def encode_texts(self, texts):
        return torch.tensor([[len(text), text.count("e")] for text in texts], dtype=torch.float32)

    def encode_questions(self, texts):
        return torch.tensor([[len(text.split())] for text in texts], dtype=torch.float32)


def test_an_encoder_of_ones_own(images, tmp_path):
    assert isinstance(Own(), Encoder)
    store = finished(embed(tmp_path / "x", Own(), images, workers=3))
    assert [store.dim(kind) for kind in ("images", "answers", "questions")] == [3, 2, 1]
    expected = Own().encode_images([images.open(name) for name in NAMES])
    torch.testing.assert_close(store.embeds("images", torch.arange(21)), expected)
    assert store.embeds("questions", torch.tensor([0])).item() == 5


def test_the_encoder_is_saved_beside_its_features(folder, images, tmp_path):
    clip = load_clip(str(folder))
    writer = embed(tmp_path / "x", clip, images)
    with pytest.raises(InputError, match="another encoder .e. than"):
        finished(writer).check_encoder(clip)
    plan = FeaturePlan(f"{clip.digest} fp32", NAMES, TEXTS[:1], TEXTS[1:], "single", 4, 10)
    writer = FeatureWriter(tmp_path / "y", plan)
    writer.begin()
    left = writer.unfinished()
    embed_texts(writer, clip, [shard for shard in left if shard[0] != "images"])
    embed_images(writer, clip, images, [number for kind, number in left if kind == "images"])
    writer.finish({}, clip)
    shutil.rmtree(folder)  # nothing beside the features is needed
    moved = shutil.move(tmp_path / "y", tmp_path / "elsewhere")
    store = FeatureStore(moved)
    assert torch.equal(store.load_encoder().encode_texts(TEXTS), clip.encode_texts(TEXTS))
    for path in store.folder.rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), path
    shutil.rmtree(store.folder / "encoder")
    with pytest.raises(InputError, match="does not hold its encoder"):
        store.load_encoder()


def test_names_of_a_data_set():
    from datasets import Dataset

    row = {
        "question": "b?",
        "answers": ["x_y", "z"],
        "support_images": ["2", "1"],
        "support_labels": [0, 1],
        "query_images": ["3", "1"],
        "query_labels": [0, 1],
        "template": "It is {}.",
    }
    splits = {
        "train": Dataset.from_list([row, row | {"question": "a?", "template": "Is {}?"}]),
        "test": Dataset.from_list([row | {"query_images": ["9"]}]),
    }
    assert names_to_embed(splits) == {
        "images": ["1", "2", "3", "9"],
        "questions": ["a?", "b?"],
        "answers": ["Is x y?", "Is z?", "It is x y.", "It is z."],
    }
