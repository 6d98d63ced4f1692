"""Attacks on files, folders and settings of strangers: each is one line, and nothing runs, is emptied, or fills the memory."""

import gzip
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.recipes.small import save_data
from tests.tiny import tiny_pipeline
from weightgen import InputError, WeightPipeline
from weightgen.cli import main
from weightgen.data import load_tasks
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.few_shot.arrays import read_npz
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.table import VqaTable
from weightgen.encoders.load import load_clip
from weightgen.reports.timing import largest_memory
from weightgen.storage.files import write_json, write_tensors
from weightgen.storage.images import read_image
from weightgen.storage.limits import VARIABLE

CLIP = "encoder/clip/open_clip_config.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    tiny_pipeline(folder).save_pretrained(folder / "pipe")
    save_data(folder / "data")
    return folder


@pytest.fixture
def model(made, tmp_path):
    shutil.copytree(made / "pipe", tmp_path / "pipe")
    return tmp_path / "pipe"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(make, *arguments, **options):
    with pytest.raises(InputError) as caught:
        make(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "entries", "message"),
    [
        ("text_cfg", {"hf_tokenizer_name": "evil/model"}, "no tokenizer that can be used"),
        ("text_cfg", {"hf_model_name": "roberta-base"}, "not read from a folder"),
        ("text_cfg", {"hf_model_name": "../../.."}, "lies outside of it"),
        ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code"),
        ("text_cfg", {"context_length": 40_000}, "context_length must be"),
        ("text_cfg", {"vocab_size": 10_000_000}, "numbers, the file has"),
        ("text_cfg", {"layers": 10**6}, "layers must be"),
        ("vision_cfg", {"timm_model_name": "hf-hub:evil/model"}, "not one of the network"),
        ("vision_cfg", {"timm_model_name": "local-dir:/tmp"}, "not one of the network"),
        ("vision_cfg", {"width": 10**6}, "width must be"),
        ("vision_cfg", {"image_size": 100_000}, "image_size must be"),
    ],
)
def test_the_folder_of_a_clip_asks_for_nothing(model, monkeypatch, part, entries, message):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("the network was asked"))
    edit(model / CLIP, lambda content: content["model_cfg"][part].update(entries))
    Path("/proc/self/clear_refs").write_text("5")  # the largest memory so far becomes that of now
    before = largest_memory()
    assert message in refused(WeightPipeline.from_pretrained, model)
    assert largest_memory() - before < 200e6


def test_code_in_the_folder_of_a_clip_does_not_run(model, tmp_path):
    folder = model / "encoder" / "clip"
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Tok: pass\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tok", None]}})
    )
    edit(
        folder / "open_clip_config.json",
        lambda content: content["model_cfg"]["text_cfg"].update(hf_tokenizer_name="."),
    )
    assert "'auto_map': code that comes with a model is not run" in refused(load_clip, str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("pipeline.json", {"guidable": "no"}, "true or false as guidable"),
        ("pipeline.json", {"template": 3}, "a text or null as template"),
        ("pipeline.json", {"sizes": {"weights": 5}}, "do not belong together"),
        ("encoder/encoder.json", {"clip": {"model": "../../../elsewhere"}}, "names the CLIP"),
        ("encoder/encoder.json", {"clip": {"model": "/etc"}}, "names the CLIP"),
        ("encoder/encoder.json", {"class": "weightgen.cli.main"}, "no class of weightgen's"),
        ("encoder/encoder.json", {"class": "weightgen.cli.commands.Path"}, "no class of weightgen's"),
        ("prior/scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "do not belong together"),
        ("prior/scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps must be"),
        (
            "prior/scheduler/scheduler_config.json",
            {"_class_name": "DPMSolverMultistepScheduler", "solver_order": 10**9},
            "no scheduler needs",
        ),
        ("prior/denoiser/config.json", {"hidden_dims": [10**6, 10**6]}, "needs floating-point numbers of shape"),
        ("prior/denoiser/config.json", {"hidden_dims": [8] * 10**5}, "at most"),
    ],
)  # fmt: skip
def test_a_model_folder_that_says_something_else(model, file, change, message):
    edit(model / file, lambda content: content.update(change))
    assert message in refused(WeightPipeline.from_pretrained, model)


def test_links_out_of_a_model_folder(model, made):
    shutil.rmtree(model / "hypernet")
    (model / "hypernet").symlink_to(made / "pipe" / "hypernet")
    assert "is a link out of the saved model" in refused(WeightPipeline.from_pretrained, model)


@pytest.mark.parametrize("output", ["/dev/full", "pipe"])
def test_outputs_that_are_no_files(made, tmp_path, output, capsys):
    place = tmp_path / output if output == "pipe" else output
    if output == "pipe":
        os.mkfifo(place)
    mode = os.stat(place).st_mode
    words = [
        "sample",
        "what color?",
        "--model",
        str(made / "pipe"),
        "--answers",
        "red,green",
        "--output",
        str(place),
    ]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "neither a file nor a folder" in capsys.readouterr().err and os.stat(place).st_mode == mode
    refused(write_json, place, {})
    assert os.stat(place).st_mode == mode


def test_a_link_in_place_of_unfinished_features(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")
    (tmp_path / "name.partial").symlink_to(precious)
    plan = FeaturePlan("a", ["i"], ["q"], ["a"])
    assert "is a link" in refused(FeatureWriter(tmp_path / "name", plan).begin)
    (tmp_path / "name.partial").unlink()
    precious.rename(tmp_path / "name.partial")
    assert "was not made by this recipe" in refused(FeatureWriter(tmp_path / "name", plan).begin)
    assert (tmp_path / "name.partial" / "thesis.txt").read_text() == "mine"


def test_devices_and_pipes_as_inputs(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in ("a.png", "b.png"):
        assert "is no file" in refused(read_image, tmp_path / name)
        assert "is no file" in refused(read_npz, tmp_path / name)
    os.mkfifo(tmp_path / "rows.csv")
    assert "is no file" in refused(list, VqaTable(tmp_path / "rows.csv"))


def test_what_unpacks_to_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.01")
    with gzip.open(tmp_path / "rows.csv.gz", "wb") as file:
        file.write(b"question,image,answer\n" + b"q,i,a\n" * 3 * 10**6)
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros(2 * 10**7, dtype=np.uint8))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive, archive.open("x.npy", "w") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(file, header)
    Image.new("RGB", (600, 600)).save(tmp_path / "a.png")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 2000), pa.array(["x" * 10_000]))
    pq.write_table(
        pa.table({"question": long, "image": ["i"] * 2000, "answer": ["a"] * 2000}), tmp_path / "r.parquet"
    )
    for make in (
        lambda: list(VqaTable(tmp_path / "rows.csv.gz")),
        lambda: list(VqaTable(tmp_path / "r.parquet")),
        lambda: read_npz(tmp_path / "a.npz"),
        lambda: read_image(tmp_path / "a.png"),
    ):
        assert VARIABLE in refused(make)
    assert "less than its shape" in refused(read_npz, tmp_path / "b.npz")
    monkeypatch.setenv(VARIABLE, "0.1")
    assert len(read_npz(tmp_path / "a.npz")["images"]) == 2 * 10**7
    monkeypatch.setenv(VARIABLE, "many")
    assert "must be a number of gigabytes" in refused(read_npz, tmp_path / "a.npz")


def test_more_samples_than_fit(made):
    pipe = WeightPipeline.from_pretrained(made / "pipe")
    assert "sampling 100,000,000 networks" in refused(
        pipe, "what color?", ["red", "green"], num_samples=10**8
    )


BIT_FLIPS = """
import sys, shutil, random, json
from pathlib import Path
from weightgen import InputError
from weightgen.data import load_tasks
folder = Path(sys.argv[1])
path = next((folder / "train").glob("*.arrow"))
good, facts = path.read_bytes(), json.loads((folder / "meta_vqa.json").read_text())
del facts["files"]
for checksums in (True, False):
    if not checksums:
        (folder / "meta_vqa.json").write_text(json.dumps(facts))
    rng, refused = random.Random(0), 0
    for _ in range(30):
        bad = bytearray(good)
        place = rng.randrange(8 * len(bad))
        bad[place // 8] ^= 1 << place % 8
        path.unlink()
        path.write_bytes(bad)
        try:
            load_tasks(folder, "train")[0].batch()
        except InputError as error:
            refused += 1
    print(refused)
"""


def test_bit_flips_in_arrow_files(made, tmp_path):
    """With the checksums that a data set notes all are refused; without them none crashes the interpreter."""
    shutil.copytree(made / "data", tmp_path / "data")
    words = [sys.executable, "-c", BIT_FLIPS, str(tmp_path / "data")]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout.split()[0] == "30"


@pytest.mark.parametrize(
    "change",
    [
        {"shards": 3},
        {"shards": {"images": ["../x"], "questions": [], "answers": []}},
        {"failed": None},
        {"fewest": {"a": 1}},
    ],
)
def test_an_index_of_features_that_is_damaged(made, tmp_path, change):
    shutil.copytree(made / "data", tmp_path / "data")
    edit(tmp_path / "data/features/clip/index.json", lambda content: content.update(change))
    refused(load_tasks, tmp_path / "data", "train")


@pytest.mark.parametrize("splits", [3, None, {"train": 3}, {"../x": {"tasks": 1}}])
def test_facts_of_a_data_set_that_are_damaged(made, tmp_path, splits):
    shutil.copytree(made / "data", tmp_path / "data")
    edit(tmp_path / "data/meta_vqa.json", lambda content: content.update(splits=splits))
    refused(load_meta_vqa, tmp_path / "data")


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_get_the_mode_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)})
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    for name in ("a.safetensors", "a.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask
