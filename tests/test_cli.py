import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import weightgen
from tests.tiny import tiny_pipeline
from weightgen.cli import main
from weightgen.data import load_tasks
from weightgen.data.features.embed import names_to_embed
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.encoders.packaged_towers import packaged_weights
from weightgen.evaluation import zero_shot
from weightgen.storage.files import read_metadata

STAR = "What color is the star?"
COMMANDS = ("sample", "write", "predict", "evaluate", "app", "info", "completion")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(pipe, tmp_path_factory):
    """The folder of a tiny pipeline."""
    folder = tmp_path_factory.mktemp("model") / "pipe"
    pipe.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    """A file of three samples."""
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    main(
        [
            "sample",
            STAR,
            "--model",
            model,
            "--answers",
            "red, green,blue",
            "--num-samples",
            "3",
            "--output",
            str(path),
        ]
    )
    return str(path)


@pytest.fixture
def images(tmp_path):
    paths = []
    for color in ("red", "blue"):
        Image.new("RGB", (40, 32), color).save(tmp_path / f"{color}.png")
        paths.append(str(tmp_path / f"{color}.png"))
    return paths


@pytest.fixture(scope="module")
def dataset(pipe, tmp_path_factory):
    """The folder of a data set of two test tasks, of two answers and of four, with the features of the model's CLIP."""
    folder = tmp_path_factory.mktemp("data") / "set"
    tasks = [
        Task(
            f"{question} is the star?",
            answers,
            names[:4],
            [i % 2 for i in range(4)],
            names[4:],
            labels,
            "it is {}",
        )
        for question, answers, names, labels in [
            ("What color", ["red", "green"], [f"a{i}" for i in range(10)], [0, 1, 0, 1, 0, 1]),
            ("What shape", ["star", "moon", "red", "blue"], [f"b{i}" for i in range(6)], [2, 3]),
        ]
    ]
    save_meta_vqa({"train": tasks, "test": tasks, "empty": []}, folder)
    names = names_to_embed(load_meta_vqa(folder))
    plan = FeaturePlan(f"{pipe.encoder.digest} fp32", **names, dtype="single")
    writer = FeatureWriter(folder / "features" / pipe.encoder.name, plan)
    writer.begin()
    for kind, number in writer.unfinished():
        shard = plan.shards(kind)[number]
        rows = torch.randn(len(shard), pipe.encoder.image_dim, generator=torch.Generator().manual_seed(0))
        writer.write(kind, number, rows if kind == "images" else pipe.encoder.encode_texts(shard))
    writer.finish({"fewest": {"examples": 2, "answers": 2}})
    return str(folder)


def refused(capsys, *arguments):
    """Run a command that must fail, and return its one line."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert caught.value.code == 2 and captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def sample(model, output, *more, prompt=STAR, answers="red,green"):
    return ["sample", prompt, "--model", model, "--answers", answers, "--output", output, *more]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0 and "usage: weightgen " + command in capsys.readouterr().out


def test_help_names_every_command_and_loads_nothing_heavy(root):
    code = "import sys\nfrom weightgen.cli import main\ntry: main(['--help'])\nfinally: print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    usage, modules = done.stdout.rsplit("\n[", 1)
    assert all(command in usage for command in COMMANDS)
    assert not any(f"'{name}'" in modules for name in ("torch", "open_clip", "diffusers", "datasets", "PIL"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required"),
        (["frobnicate"], "invalid choice"),
        (["predict", "x"], "IMAGE"),
        (["evaluate", "--model", "x", "--steps", "x"], "invalid int value"),
    ],
)
def test_wrong_words_are_one_line_too(words, message, capsys):
    line = refused(capsys, *words)
    assert message in line and "see weightgen" in line and line.endswith("--help\n")


def test_sample_writes_what_the_pipeline_gives(pipe, model, tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    options = ["--num-samples", "2", "--guidance-scale", "2", "--steps", "5", "--seed", "7"]
    main(sample(model, str(path), *options, "--template", "the star looks {}"))
    assert str(path) in capsys.readouterr().out
    expected = pipe(
        STAR,
        num_samples=2,
        guidance_scale=2.0,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(7),
    )
    assert torch.equal(load_file(path)["weights"], expected.weights[0])
    back = pipe.load_weights(path)
    assert back.answers == [["red", "green"]] and back.templates == ["the star looks {}"]
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]


def test_predict_averages_the_samples_or_takes_one(pipe, model, weights, images, capsys):
    out = pipe.load_weights(weights)
    pictures = [Image.open(path) for path in images]
    shares = torch.stack([out.classifier(0, k).probabilities(pictures) for k in range(3)])
    for options, expected in (([], shares.mean(dim=0)), (["--sample", "1"], shares[1])):
        main(["predict", weights, "--model", model, *options, *images])
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert [path for path, _, _ in lines] == images
        assert [answer for _, answer, _ in lines] == [out.answers[0][i] for i in expected.argmax(dim=1)]
        assert [float(share) for *_, share in lines] == pytest.approx(expected.amax(dim=1).tolist(), abs=6e-4)


def test_evaluate(model, dataset, tmp_path, capsys):
    paths = [tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.json"]
    for path, seed in zip(paths, "001", strict=True):
        options = ["--seed", seed, "--steps", "5", "--guidance-scale", "1"]
        main(["evaluate", "--model", model, "--dataset", dataset, "--output", str(path), *options])
    first, again, other = (json.loads(path.read_text()) for path in paths)
    assert first == again and other["seed"] == 1
    assert (first["guidance_scale"], first["num_inference_steps"]) == (1.0, 5)
    assert first["splits"]["test"]["tasks"] == 2 and list(first["splits"]) == ["test"]
    scores = first["splits"]["test"]["accuracy"]
    # Six images with two answers, two images with four: 1/2 and 1/4 by guessing.
    assert scores["chance"] == pytest.approx({"macro": 3 / 8, "micro": 3.5 / 8})
    for name in ("encoder", "sampled"):
        eighths = scores[name]["micro"] * 8
        assert eighths == pytest.approx(round(eighths), abs=1e-5) and 0 <= scores[name]["macro"] <= 1
    assert capsys.readouterr().out.startswith(json.dumps(first["splits"], indent=2))


def test_evaluate_gives_the_number_of_the_library(model, pipe, dataset, tmp_path):
    path = tmp_path / "two.json"
    options = ["--seed", "3", "--steps", "5", "--split", "train", "test", "--features", pipe.encoder.name]
    main(["evaluate", "--model", model, "--dataset", dataset, "--output", str(path), *options])
    splits = json.loads(path.read_text())["splits"]
    assert list(splits) == ["train", "test"]
    tasks = load_tasks(dataset, "train", "test")
    for part, shown in zip(tasks, splits.values(), strict=True):
        expected = zero_shot(pipe, part, seed=3, num_inference_steps=5, guidance_scale=1.5)
        assert shown["accuracy"]["sampled"]["macro"] == pytest.approx(expected.macro)


def test_info(pipe, model, weights, dataset, capsys):
    main(["info", model])
    shown = json.loads(capsys.readouterr().out)
    assert shown["sizes"] == pipe.description["sizes"] and shown["encoder"]["digest"] == pipe.encoder.digest
    main(["info", weights])
    shown = json.loads(capsys.readouterr().out)
    assert shown["prompt"] == STAR and shown["answers"] == ["red", "green", "blue"]
    main(["info", dataset])
    assert "test" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "expected a question"),
        ({"answers": "red"}, "two answers or more"),
        ({"answers": "red,green,red"}, "must differ"),
        ({"answers": "red,,green"}, "not empty"),
        ({"more": ["--steps", "0"]}, "from 1 to 50"),
        ({"more": ["--steps", "51"]}, "from 1 to 50"),
        ({"more": ["--num-samples", "0"]}, "at least 1"),
        ({"more": ["--guidance-scale", "nan"]}, "finite"),
        ({"more": ["--seed", str(2**63)]}, "--seed"),
        ({"more": ["--template", "no place"]}, "exactly one"),
    ],
)
def test_wrong_samples(model, tmp_path, capsys, options, message):
    more = options.pop("more", [])
    assert message in refused(capsys, *sample(model, tmp_path / "x.safetensors", *more, **options))
    assert not list(tmp_path.iterdir())


def test_wrong_models(tmp_path, capsys):
    output = tmp_path / "x.safetensors"
    assert "no folder" in refused(capsys, *sample(tmp_path / "nothing", output))
    assert "pipeline.json" in refused(capsys, *sample(tmp_path, output))
    assert not list(tmp_path.iterdir())


def test_wrong_predictions(model, weights, images, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_text("no picture")
    half = tmp_path / "half.png"
    with open(images[0], "rb") as file:
        half.write_bytes(file.read()[:60])
    for path in (broken, half, tmp_path / "nothing.png", tmp_path):
        line = refused(capsys, "predict", weights, "--model", model, images[0], path)
        assert str(path) in line and "not an image" in line
    assert "samples 0 to 2" in refused(capsys, "predict", weights, "--model", model, "--sample", "3", *images)
    cut = tmp_path / "cut.safetensors"
    with open(weights, "rb") as file:
        cut.write_bytes(file.read()[:-9])
    assert "truncated" in refused(capsys, "predict", cut, "--model", model, *images)


def test_wrong_evaluations(model, dataset, tmp_path, capsys):
    output = tmp_path / "report.json"
    more = ["--model", model, "--output", output, "--dataset"]
    assert "no split 'other'" in refused(capsys, "evaluate", *more, dataset, "--split", "other")
    assert "no tasks" in refused(capsys, "evaluate", *more, dataset, "--split", "empty")
    assert "no folder" in refused(capsys, "evaluate", *more, tmp_path / "nothing")
    other = shutil.copytree(dataset, tmp_path / "other")
    plan = next(other.glob("features/*/plan.json"))
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "encoder": "0123 fp32"}))
    assert "another encoder" in refused(capsys, "evaluate", *more, other)
    assert not output.exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for output, message in ((tmp_path, "is a folder"), (tmp_path / "file/x", "cannot write")):
        assert message in refused(capsys, *sample("no model", output))


def test_a_class_of_ones_own_needs_trust(pipe, dataset, tmp_path, capsys, monkeypatch):
    """An encoder in a module of the user's own: refused without the flag, used with it."""
    pipe.save_pretrained(tmp_path / "pipe")
    (tmp_path / "my_encoder.py").write_text(
        "from weightgen.encoders.clip import CLIP\nclass Mine(CLIP):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for path in (tmp_path / "pipe/encoder/encoder.json", tmp_path / "pipe/pipeline.json"):
        path.write_text(path.read_text().replace("weightgen.encoders.clip.CLIP", "my_encoder.Mine"))
    words = sample(str(tmp_path / "pipe"), str(tmp_path / "x.safetensors"), "--steps", "2")
    assert "my_encoder.Mine" in refused(capsys, *words) and "my_encoder" not in sys.modules
    main([*words, "--trust-remote-code"])
    assert "my_encoder" in sys.modules and (tmp_path / "x.safetensors").is_file()


def test_nothing_to_describe(tmp_path, capsys):
    assert "neither" in refused(capsys, "info", tmp_path)
    assert "neither" in refused(capsys, "info", tmp_path / "nothing")
    (tmp_path / "x").write_text("text")
    assert "not a safetensors file" in refused(capsys, "info", tmp_path / "x")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["red,green"], ["red", "green"]),
        (['"red, white and blue",green'], ["red, white and blue", "green"]),
        (['red, "white, blue"'], ["red", "white, blue"]),
        (["red", "green,blue"], ["red", "green", "blue"]),
        (["@FILE"], ["red, white", "green", 'the "blue"']),
        (["@FILE", "moon"], ["red, white", "green", 'the "blue"', "moon"]),
    ],
)
def test_answers_of_the_command_line(words, expected, model, tmp_path):
    (tmp_path / "answers.txt").write_text('\ufeffred, white\r\n\r\ngreen\nthe "blue"\n', encoding="utf-8")
    words = [word.replace("FILE", str(tmp_path / "answers.txt")) for word in words]
    more = [part for word in words[1:] for part in ("--answers", word)]
    path = tmp_path / "x.safetensors"
    main(sample(model, str(path), *more, "--steps", "2", "--template", "{} is it", answers=words[0]))
    assert json.loads(load_metadata(path))["answers"] == expected


def load_metadata(path):
    return read_metadata(path)["weightgen"]


def test_wrong_answers_of_the_command_line(model, tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    assert "UTF-8 file with one a line" in refused(
        capsys, *sample(model, path, answers=f"@{tmp_path}/nothing")
    )
    assert "write" in refused(capsys, *sample(model, path, answers='"red,green'))
    assert "by capitals or spaces alone" in refused(capsys, *sample(model, path, answers="red,Red"))
    assert "is no valid text" in refused(capsys, *sample(model, path, prompt="what \udcff is it?"))
    assert not path.exists()


def test_home_is_expanded(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(model, tmp_path / "pipe")
    main(sample("~/pipe", "~/x.safetensors", "--steps", "2"))
    main(["info", "~/x.safetensors"])
    assert STAR in capsys.readouterr().out and (tmp_path / "x.safetensors").is_file()


def test_version_as_a_module(root):
    for words in (["--version"], ["info", "nowhere"]):
        command = [sys.executable, "-m", "weightgen", *words]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.stdout == f"weightgen {weightgen.__version__}\n" or done.returncode == 2
    assert done.stderr.startswith("error: nowhere is neither")


def test_a_terminal_without_the_letters_of_a_prompt(model, root, tmp_path):
    command = [
        sys.executable,
        "-m",
        "weightgen",
        *sample(model, str(tmp_path / "x.safetensors"), "--steps", "2"),
    ]
    command[4] = "what colör is the star?"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=root, capture_output=True, env=environment)
    assert done.returncode == 0 and rb"col\xf6r" in done.stdout, done.stderr


def test_several_features_are_told_with_the_option(model, dataset, tmp_path, capsys):
    other = tmp_path / "set"
    shutil.copytree(dataset, other)
    (first,) = (other / "features").iterdir()
    shutil.copytree(first, other / "features" / "second")
    line = refused(capsys, "evaluate", "--model", model, "--dataset", other, "--output", tmp_path / "r.json")
    assert "several features" in line and "--features" in line


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell, capsys):
    pytest.importorskip("shtab")
    main(["completion", shell])
    told = capsys.readouterr().out
    assert all(word in told for word in (*COMMANDS, "num-samples", "hypertransformer"))


def test_completion_in_bash(tmp_path, capsys):
    pytest.importorskip("shtab")
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    main(["completion", "bash"])
    (tmp_path / "x.sh").write_text(capsys.readouterr().out)
    ask = "source x.sh; COMP_WORDS=(weightgen sa); COMP_CWORD=1; _shtab_weightgen; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["sample"], done.stderr


def test_completion_needs_shtab(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "pip install shtab" in refused(capsys, "completion", "bash")


HEAVY = (
    "torch._dynamo",
    "diffusers",
    "transformers",
    "torchvision",
    "timm",
    "open_clip",
    "datasets",
    "scipy",
    "matplotlib",
)


def test_sampling_from_the_shipped_pipeline_loads_nothing_heavy_but_torch(root, tmp_path):
    """Most of a command's time is its imports."""
    if packaged_weights("sentence-transformers/all-MiniLM-L6-v2") is None:
        pytest.skip("the extra weightgen[photos] is not installed")
    words = [
        "sample",
        "What is it?",
        "--model=photos",
        "--answers=cat,dog",
        f"--output={tmp_path / 'x.safetensors'}",
    ]
    code = f"import sys\nfrom weightgen.cli import main\nmain({words})\nprint(sorted({set(HEAVY)} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
