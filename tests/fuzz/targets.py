"""What is attacked: each target gives a strategy of inputs, and a function that must return or raise `InputError` in one line."""

import io
import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st
from omegaconf import MISSING
from PIL import Image

from tests.fuzz.damage import anything, damaged, spoiled, spoiled_file
from tests.recipes.small import save_data
from tests.tiny import tiny_pipeline
from weightgen import WeightPipeline, training
from weightgen.cli import main
from weightgen.data import load_tasks
from weightgen.data.meta_vqa.disk import Rules, build_meta_vqa
from weightgen.data.meta_vqa.release import read_release
from weightgen.data.meta_vqa.table import VqaTable
from weightgen.data.meta_vqa.vqa_v2 import VqaV2
from weightgen.storage.images import read_image
from weightgen.training.components import component
from weightgen.training.config import parse
from weightgen.training.ranges import check_ranges

KINDS = ("network", "hypernet", "denoiser", "scheduler", "encoder")


class Target(NamedTuple):
    """Inputs, and what is done with one of them."""

    inputs: st.SearchStrategy[Any]
    use: Callable[[Any], object]


@contextmanager
def replaced(folder: Path, name: str, content: bytes):
    """A folder in which one file has other content; afterwards nothing but the old files may be there."""
    path, before = folder / name, {each.relative_to(folder) for each in folder.rglob("*")}
    old = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(old)
        left = {each.relative_to(folder) for each in folder.rglob("*")} - before
        assert not left, f"left over: {left}"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".md", ".png")
    }


def vqa_files(folder: Path) -> Target:
    asked = [{"question_id": i, "image_id": i, "question": f"Q{i // 4}?"} for i in range(8)]
    answered = [
        {"question_id": i, "image_id": i, "answer_type": "other", "multiple_choice_answer": "ab"[i % 2], "answers": []}
        for i in range(8)
    ]  # fmt: skip
    rows = {"question": ["q"] * 4, "image": list("abcd"), "answer": list("abab")}
    folder.mkdir()
    files = {
        "v2_OpenEnded_mscoco_train2014_questions.json": {"data_subtype": "train2014", "questions": asked},
        "v2_mscoco_train2014_annotations.json": {"data_subtype": "train2014", "annotations": answered},
        "release.json": {
            "Q?": {"train": [["i", "a"], ["j", "b"]], "test": [["k", "a"]], "answers": ["a", "b"]}
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "rows.csv").write_text("question,image,answer\n" + 'q,"i, j",a\n' * 4)
    pq.write_table(pa.table(rows), folder / "rows.parquet")

    def use(case):
        with replaced(folder, *case):
            if case[0].startswith("v2"):
                build_meta_vqa(VqaV2(folder, subtypes=("train2014",)), Rules(min_examples=4))
            elif case[0] == "release.json":
                read_release(folder / case[0], folder / case[0])
            else:
                list(VqaTable(folder / case[0]))

    return Target(spoiled_file(contents(folder)), use)


def task_folders(folder: Path) -> Target:
    save_data(folder)
    facts = json.loads((folder / "meta_vqa.json").read_text())
    del facts["files"]  # else the checksums refuse all that is done to Arrow files
    (folder / "meta_vqa.json").write_text(json.dumps(facts))

    def use(case):
        with replaced(folder, *case):
            for tasks in load_tasks(folder, "train", "test", questions=True):
                tasks.batch()

    return Target(spoiled_file(contents(folder)), use)


def model_folders(folder: Path) -> Target:
    tiny_pipeline(folder.with_name("model_parts")).save_pretrained(folder)

    def use(case):
        with replaced(folder, *case):
            pipe = WeightPipeline.from_pretrained(folder)
            out = pipe("what color is the star?", ["red", "green"], num_inference_steps=2)
            out.classifier().predict([Image.new("RGB", (40, 30))])

    return Target(spoiled_file(contents(folder)), use)


def weights_files(folder: Path) -> Target:
    pipe = tiny_pipeline(folder.with_name("weights_parts"))
    folder.mkdir()
    pipe("what color is the star?", ["red", "green"], num_samples=2).save(folder / "w.safetensors")

    def use(case):
        with replaced(folder, *case):
            out = pipe.load_weights(folder / "w.safetensors")
            out.warning()
            out.classifier(0, 1).predict([Image.new("RGB", (40, 30))])

    return Target(spoiled_file(contents(folder)), use)


@dataclass
class Config:
    output: str = MISSING
    seed: int = 0
    steps: int = 10
    lr: float = 1e-3
    scales: list[float] = field(default_factory=lambda: [0.0, 1.0])
    shots: list[int | None] = field(default_factory=lambda: [1, None])
    name: str | None = None
    network: dict[str, Any] = training.spec("weightgen.networks.CLIPAdapter", hidden_dim=4)


GOOD = {
    "seed": 1,
    "lr": 0.1,
    "scales": [1.0],
    "network": {"_component_": "weightgen.networks.MLP", "hidden_dims": [4]},
}
WORDS = [
    "seed=1",
    "lr=.nan",
    "scales=[1,2]",
    "network.hidden_dim=3",
    "network._component_=torch.hub.load",
    "a=b",
    "=",
    "{",
]


def settings_files(folder: Path) -> Target:
    folder.mkdir()
    path = folder / "settings.yaml"
    text = damaged(
        b"seed: 1\nlr: 1e-3\nscales: [0.0, 1.0]\nnetwork:\n  _component_: torch.load\n  f: &a [*a]\n"
    )
    yaml = text | spoiled(GOOD).map(lambda x: json.dumps(x).encode(errors="replace")) | st.binary(max_size=40)
    yaml |= st.sampled_from([b"[" * 10_000, b"- " * 10_000, b"a: " * 5000, b"lr: " + b"9" * 5000])
    words = st.lists(
        st.sampled_from(WORDS) | st.text(max_size=12).filter(lambda word: not word.startswith("-")),
        max_size=3,
    )

    def use(case):
        path.write_bytes(case[0])
        config = parse(Config, "", ["--config", str(path), "output=x", *case[1]])
        check_ranges(vars(config))
        for kind in KINDS:
            component(config.network, kind)

    return Target(st.tuples(yaml, words), use)


def prompts_and_answers(folder: Path) -> Target:
    pipe = tiny_pipeline(folder)
    pipe.save_pretrained(folder / "pipe")
    texts = st.text(max_size=12) | st.sampled_from(
        ["what color is the star?", "red", "\ud800", " ", "it is {}", "{}{0}"]
    )
    some = texts | anything
    numbers = st.integers(-3, 3) | st.sampled_from([10**7, 10**30, float("nan"), 1.5, True, None, "2"])
    options = st.fixed_dictionaries(
        {},
        optional={"num_samples": numbers, "guidance_scale": numbers | st.floats(), "num_inference_steps": numbers,
                  "temperature": numbers | st.floats(), "template": st.none() | texts, "generator": st.none() | anything,
                  "support": st.none() | anything | st.tuples(st.lists(some, max_size=2), st.lists(some, max_size=2))},
    )  # fmt: skip
    calls = st.tuples(
        st.just("call"), some | st.lists(texts, max_size=3), some | st.lists(texts, max_size=4), options
    )
    command = st.tuples(
        st.just("command"),
        texts,
        texts,
        st.lists(st.sampled_from(["--steps", "--seed", "-1", "2", "x"]), max_size=3),
    )

    def use(case):
        how, prompt, answers, more = case
        if how == "call":
            out = pipe(prompt, answers, **more)
            assert out.weights.isfinite().all()
            return
        output = folder / "out.safetensors"
        words = [
            "sample",
            f"--model={folder / 'pipe'}",
            f"--answers={answers}",
            f"--output={output}",
            *more,
            "--",
            prompt,
        ]
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                main(words)
            output.unlink()
        except SystemExit as stopped:
            assert stopped.code == 2 and said.getvalue().count("\n") == 1, (stopped.code, said.getvalue())
            assert not output.exists()
        assert not list(folder.glob(".out*"))

    return Target(calls | command, use)


def images(folder: Path) -> Target:
    folder.mkdir()
    picture = Image.effect_noise((24, 16), 50).convert("RGB")
    for name in ("a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp"):
        picture.save(folder / name)
    picture.convert("CMYK").save(folder / "b.jpg")
    picture.convert("RGBA").save(folder / "b.png")
    Image.fromarray((torch.arange(384).reshape(16, 24) * 100).to(torch.uint16).numpy()).save(folder / "c.png")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    def use(case):
        with replaced(folder, *case):
            assert read_image(folder / case[0]).mode == "RGB"

    return Target(spoiled_file(files), use)


TARGETS: dict[str, Callable[[Path], Target]] = {
    each.__name__: each
    for each in (
        vqa_files,
        task_folders,
        model_folders,
        weights_files,
        settings_files,
        prompts_and_answers,
        images,
    )
}


def made(name: str, folder: Path) -> Target:
    """A target, in a new folder."""
    shutil.rmtree(folder / name, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return TARGETS[name](folder / name)
