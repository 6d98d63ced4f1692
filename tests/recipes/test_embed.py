"""The recipe as it is run: from Meta-VQA and image files to features that training reads."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from weightgen import InputError
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.encoders.clip_folder import new_clip, save_clip
from weightgen.encoders.load import load_clip
from weightgen.training.config import parse

NAMES = [f"COCO_{'train' if i % 3 else 'val'}2014_{i:012d}" for i in range(60)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a tiny CLIP."""
    words = ["[PAD]", "[UNK]", *"what is it red light blue".split(), "[EOS]"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    end = len(words) - 1
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [EOS]", special_tokens=[("[EOS]", end)]
    )
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4},
        "text_cfg": {"context_length": 8, "vocab_size": len(words), "width": 16, "heads": 2, "layers": 1},
    }
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    save_clip(new_clip(config, tokenizer), config, tokenizer, folder, half=True)
    return folder


def write_images(folder, size=(40, 36), suffix=".png"):
    rng = np.random.default_rng(0)
    for name in NAMES:
        path = folder / name.split("_")[1] / (name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def write_dataset(folder, count=60):
    """Seven tasks of 24 images each, out of the first `count`."""

    def task(number):
        images = [NAMES[(7 * number + i) % count] for i in range(24)]
        labels = [i % 2 for i in range(24)]
        parts = (images[:16], labels[:16], images[16:], labels[16:])
        return Task(f"what is it {number}", ["red", "light_blue"], *parts, "it is {}")

    save_meta_vqa({"train": [task(i) for i in range(6)], "test": [task(9)]}, folder)


@pytest.fixture
def work(tmp_path):
    """A folder with `data` and `images`."""
    write_images(tmp_path / "images")
    write_dataset(tmp_path / "data")
    return tmp_path


@pytest.fixture(scope="module")
def recipe(root):
    spec = importlib.util.spec_from_file_location("embed", root / "recipes" / "embed.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["embed"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["embed"]


def words(work, clip, *more):
    return [f"dataset={work / 'data'}", f"images={work / 'images'}", f"model={clip}", "shard_size=16", *more]


def run(recipe, work, clip, *more):
    recipe.main(parse(recipe.Config, recipe.__doc__, words(work, clip, *more)))


def command(root, work, clip, *more, processes=1):
    start = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    return [sys.executable, *start, str(root / "recipes" / "embed.py"), *words(work, clip, *more)]


def environment(root):
    return {**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_from_files_to_tasks(recipe, work, clip, capsys):
    run(recipe, work, clip)
    out = capsys.readouterr().out
    assert "images, 7 questions, 2 answers" in out
    splits, store, towers = load_meta_vqa(work / "data"), find_features(work / "data"), load_clip(str(clip))
    assert store.folder.name == towers.name and store.failed == {}
    tasks = MetaVQATasks(splits["test"], store)
    row = splits["test"][0]
    images = [
        Image.open(work / "images" / name.split("_")[1] / f"{name}.png") for name in row["query_images"]
    ]
    torch.testing.assert_close(tasks[0].query.inputs, towers.encode_images(images))
    torch.testing.assert_close(tasks[0].embeds, towers.encode_texts([row["question"]])[0])
    torch.testing.assert_close(
        tasks[0].context["answers"], towers.encode_texts(["it is red", "it is light blue"])
    )
    assert torch.equal(store.load_encoder().encode_texts(["red"]), towers.encode_texts(["red"]))
    run(recipe, work, clip)
    assert "is there already" in capsys.readouterr().out


def test_options_reach_the_store(recipe, work, clip):
    run(recipe, work, clip, "dtype=half", "preprocess=squash", "name=mine", "workers=3", "batch_size=7")
    store = find_features(work / "data", "mine")
    assert store.embeds("images", torch.tensor([0])).dtype == torch.float16
    assert store.load_encoder().resize_mode == "squash" and store.plan["batch_size"] == 7
    with pytest.raises(InputError, match="other settings"):
        run(recipe, work, clip, "name=mine")
    run(recipe, work, clip, "name=mine", "overwrite=true")
    assert find_features(work / "data", "mine").plan["dtype"] == "single"


def test_missing_and_broken_images_stop_it(recipe, work, clip):
    splits = load_meta_vqa(work / "data")
    used = sorted({name for split in splits.values() for row in split["support_images"] for name in row})
    (work / "images" / used[0].split("_")[1] / f"{used[0]}.png").unlink()
    broken = work / "images" / used[20].split("_")[1] / f"{used[20]}.png"
    whole = broken.read_bytes()
    broken.write_bytes(b"no image")
    with pytest.raises(
        InputError, match=f"1 are missing and 0 broken, for example {used[0]} .missing.; all are"
    ):
        run(recipe, work, clip, "name=x")
    partial = work / "data" / "features" / "x.partial"
    assert json.loads((partial / "failed.json").read_text()) == {used[0]: "missing"}
    write_images(work / "images")
    broken.write_bytes(b"no image")
    with pytest.raises(
        InputError, match=f"0 are missing and 1 broken, for example {used[20]} .cannot be decoded"
    ):
        run(recipe, work, clip, "name=x")
    with pytest.raises(InputError, match="is unfinished"):
        find_features(work / "data", "x")
    times = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.safetensors")}
    assert len(times) == 5  # six shards, one with the broken image
    broken.write_bytes(whole)
    run(recipe, work, clip, "name=x")
    kept = {path.name: path.stat().st_mtime_ns for path in (work / "data" / "features" / "x").iterdir()}
    assert times.items() < kept.items()  # those were not made again
    assert not any("failed" in name for name in kept)


def test_broken_images_can_be_left_out(recipe, work, clip, capsys):
    splits = load_meta_vqa(work / "data")
    lost = [*splits["test"][0]["support_images"][:4], splits["train"][2]["support_images"][5]]
    for name in lost:
        (work / "images" / name.split("_")[1] / f"{name}.png").write_bytes(b"no image")
    run(recipe, work, clip, "on_error=skip")
    out = capsys.readouterr().out
    assert "5 images could not be read and are left out" in out and "{'train': 1, 'test': 1}" in out
    store = find_features(work / "data")
    assert sorted(store.failed) == sorted(lost)
    assert len(MetaVQATasks(splits["test"], store)) == 0  # 19 of 24 images are below the minimum of 21
    train = MetaVQATasks(splits["train"], store)
    sizes = [
        sum(name not in lost for name in row["support_images"] + row["query_images"])
        for row in splits["train"]
    ]
    assert train.sizes == [size for size in sizes if size >= 21] and min(train.sizes) < 24


def test_another_encoder_beside_the_features_is_seen_when_they_are_opened(recipe, work, clip):
    run(recipe, work, clip)
    path = find_features(work / "data").folder / "encoder" / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": 64 * "0"}))
    with pytest.raises(
        InputError, match="holds another encoder .000000000000. than the one of these features"
    ):
        find_features(work / "data")


def test_losing_every_image_is_no_success(recipe, work, clip):
    (work / "others").mkdir()
    Image.new("RGB", (8, 8)).save(work / "others" / "unrelated.png")
    for more in ([], ["on_error=skip"]):
        with pytest.raises(
            InputError, match="of 59 images 59 are missing and 0 broken.*the folder of images given"
        ):
            run(recipe, work, clip, f"images={work / 'others'}", *more)
    for path in (work / "images").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="0 are missing and 59 broken"):
        run(recipe, work, clip, "on_error=skip")
    with pytest.raises(InputError, match="has no features|is unfinished"):
        find_features(work / "data")


def test_any_saved_encoder_and_one_of_ones_own(recipe, work, clip, monkeypatch):
    load_clip(str(clip)).save_pretrained(work / "saved")
    more = [word for word in words(work, clip) if not word.startswith("model=")]
    (work / "my_clip.py").write_text("from weightgen.encoders.load import load_clip as Mine\n")
    monkeypatch.syspath_prepend(work)
    own = "{_component_: my_clip.Mine, model: " + str(clip) + "}"
    specs = {"saved": ["encoder={folder: " + f"{work / 'saved'}" + "}"]}
    specs["own"] = [f"encoder={own}", "trust_remote_code=true"]
    for name, spec in specs.items():
        recipe.main(parse(recipe.Config, recipe.__doc__, [*more, *spec, f"name={name}"]))
        store = find_features(work / "data", name)
        assert store.dim("images") == 8 and store.load_encoder().digest == load_clip(str(clip)).digest


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["on_error=ignore"], "unknown on_error 'ignore'"),
        (["dataset=nowhere"], "no folder nowhere"),
        (["images=nowhere"], "no image folder nowhere"),
        (["model=null"], "give one of model=... and encoder="),
        (["model=ViT-L-14-336"], "without weights"),
        (
            ["model=null", "encoder={_component_: torch.nn.Identity}"],
            "names the class .torch.nn.Identity., which is not weightgen.s: .*trust_remote_code",
        ),
        (
            ["model=null", "encoder={_component_: torch.nn.Identity}", "trust_remote_code=true"],
            "Identity is no Encoder: it lacks name, digest",
        ),
        (["model=null", "encoder={folder: nowhere}"], "neither a folder nor a model"),
        (["dtype=fp8"], "unknown dtype 'fp8'"),
    ],
)
def test_wrong_input(recipe, work, clip, more, message):
    with pytest.raises(InputError, match=message):
        run(recipe, work, clip, *more)
    assert not (work / "data" / "features").exists()


def test_every_configuration_fits(recipe, root):
    paths = sorted((root / "recipes" / "configs" / "embed").glob("*.yaml"))
    for path in paths:
        config = parse(recipe.Config, "", ["--config", str(path), "dataset=a", "images=b"])
        assert config.dataset == "a" and config.model
    assert len(paths) == 4


def test_two_processes_write_the_same_bytes(recipe, root, work, clip):
    run(recipe, work, clip, "name=one")
    two = command(root, work, clip, "name=two", "workers=2", processes=2)
    done = subprocess.run(two, env=environment(root), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (contents(work / "data" / "features" / name) for name in ("one", "two"))
    assert one == two and len(one) == 12


@pytest.mark.slow
def test_a_killed_run_is_resumed(recipe, root, work, clip):
    """Killed for good, at a random moment while it embeds; twice."""
    folder = work / "data" / "features" / "x"
    partial = folder.with_name("x.partial")
    slow = ["name=x", "shard_size=1", "batch_size=1", "workers=1"]
    run(recipe, work, clip, "name=whole", *slow[1:])
    seen = {}
    for least in (3, 20):
        process = subprocess.Popen(command(root, work, clip, *slow), env=environment(root))
        while process.poll() is None and len(list(partial.glob("images-*.safetensors"))) < least:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not folder.exists()
        shards = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.safetensors")}
        assert seen.items() <= shards.items() and len(shards) >= least
        seen = shards
    run(recipe, work, clip, *slow)
    assert seen.items() < {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}.items()
    whole, resumed = (contents(work / "data" / "features" / name) for name in ("whole", "x"))
    assert resumed == whole


@pytest.mark.slow
def test_vit_l_14_336_with_random_weights(recipe, tmp_path, clip):
    write_images(tmp_path / "images", (480, 640), ".jpg")
    write_dataset(tmp_path / "data", count=6)
    more = ["random_weights=true", "preprocess=squash", "batch_size=2", "name=large"]
    run(recipe, tmp_path, "ViT-L-14-336", *more)
    splits, store = load_meta_vqa(tmp_path / "data"), find_features(tmp_path / "data")
    tasks = MetaVQATasks(splits["train"], store)
    batch = tasks.batch()
    assert batch.support.inputs.shape == (6, 16, 768) and batch.embeds.shape == (6, 768)
    assert batch.context["answers"].shape == (6, 2, 768)
    assert torch.isfinite(batch.support.inputs).all() and batch.support.inputs.std(0).min() > 0
