"""A folder of pictures in, a CNN out: what is read, what the file holds, and what wrong folders say."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from tests.app.runs import untrained_run
from weightgen import Examples, InputError
from weightgen.cli import main
from weightgen.hypernets import HyperTransformer
from weightgen.pipelines.picture_classifier import PictureClassifier
from weightgen.pipelines.picture_hypernet import PictureHypernet
from weightgen.pipelines.picture_scale import PictureScale
from weightgen.storage.files import read_metadata, read_tensors, write_json, write_tensors

SCALE = PictureScale(28, 1, 0.0, 64.0, inverted=True)


def draw(path, column, size=(40, 40)):
    """A dark stroke on white paper."""
    values = np.full((size[1], size[0]), 255, np.uint8)
    values[8:-8, column : column + 4] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    for i in range(2):
        draw(tmp_path / "pics" / "left" / f"{i}.png", 8 + i)
        draw(tmp_path / "pics" / "right" / f"{i}.png", 28 + i)
    draw(tmp_path / "pics" / "unknown.png", 9)
    (tmp_path / "pics" / "notes.txt").write_text("no picture")
    (tmp_path / "pics" / ".cache").mkdir()
    return tmp_path / "pics"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    return untrained_run(tmp_path_factory.mktemp("run"))


def test_the_cnn_is_that_of_the_hypernetwork(folder, run, tmp_path):
    made = PictureHypernet.load(run).write_from(folder)
    assert (made.classes, made.facts["labelled"], made.facts["unlabelled"]) == (["left", "right"], 4, 1)
    paths = [*sorted(folder.glob("left/*.png")), *sorted(folder.glob("right/*.png")), folder / "unknown.png"]
    grey = [np.asarray(Image.open(p).resize((28, 28), Image.Resampling.BOX), np.float32) for p in paths]
    images = (255 - torch.tensor(np.stack(grey))[:, None]) / 64
    hypernet = HyperTransformer.from_pretrained(f"{run}/hypernet")
    network = hypernet.export(Examples(images, torch.tensor([0, 0, 1, 1, -1])), stored_statistics=True)
    wanted = network(images).softmax(dim=-1)
    pictures = [Image.open(path) for path in paths]
    torch.testing.assert_close(made.probabilities(pictures), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made.probabilities(pictures[:1])[0], wanted[0], rtol=1e-4, atol=1e-4)
    made.save(tmp_path / "net.safetensors")
    again = PictureClassifier.load(tmp_path / "net.safetensors")
    assert again.classes == made.classes and again.scale == made.scale and again.facts == made.facts
    torch.testing.assert_close(again.probabilities(pictures), made.probabilities(pictures))


def test_the_commands(folder, run, tmp_path, capsys):
    output = str(tmp_path / "net.safetensors")
    main(["write", str(folder), "--model", run, "--output", output])
    assert "2 classes, from 4 labelled and 1 unlabelled pictures" in capsys.readouterr().out
    main(["predict", output, str(folder / "left/0.png"), str(folder / "unknown.png")])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [str(folder / "left/0.png"), str(folder / "unknown.png")]
    assert all(line[1] in ("left", "right") and 0 <= float(line[2]) <= 1 for line in lines)
    main(["info", output])
    assert json.loads(capsys.readouterr().out)["classes"] == ["left", "right"]


@pytest.mark.parametrize("channels", [8, 16])
def test_the_shipped_models_by_name(tmp_path, capsys, channels):
    name = f"omniglot-{channels}ch-1shot"
    hypernet = HyperTransformer.from_pretrained(name)
    assert (hypernet.network.channels, hypernet.network.num_classes) == (channels, 20)
    shapes = {"ring": "ellipse", "bar": "line", "square": "rectangle"}
    for shape, method in shapes.items():
        (tmp_path / "pics" / shape).mkdir(parents=True)
        for i in range(3):
            picture = Image.new("L", (105, 105), 255)
            how = {"fill": 0} if method == "line" else {"outline": 0}
            getattr(ImageDraw.Draw(picture), method)((18 + 5 * i, 20, 80 + 3 * i, 85 + 2 * i), width=4, **how)
            picture.save(tmp_path / "pics" / shape / f"{i}.png" if i else tmp_path / f"{shape}.png")
    main(["write", str(tmp_path / "pics"), "--model", name, "--output", str(tmp_path / "net.safetensors")])
    main(["info", name])
    capsys.readouterr()
    main(
        ["predict", str(tmp_path / "net.safetensors"), *(str(tmp_path / f"{shape}.png") for shape in shapes)]
    )
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == list(shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: [p.unlink() for p in f.glob("right/*")], "right holds no pictures"),
        (lambda f: [(f / f"class{i}").mkdir() for i in range(4)], "holds 6 class folders: expected 2 to 5"),
        (
            lambda f: [p.unlink() for p in f.glob("right/*")] + [(f / "right").rmdir()],
            "holds 1 class folder: expected",
        ),
        (lambda f: f.rename(f.parent / "away"), "no folder"),
        (lambda f: (f / "left/2.png").write_bytes(b"nothing"), "left/2.png is not an image"),
        (lambda f: Image.new("L", (9, 9), 10).save(f / "left/3.png"), r"left/3.png is more dark than light"),
        (
            lambda f: Image.new("L", (9, 9), 255).save(f / "left/3.png"),
            r"left/3.png is blank: expected a drawing",
        ),
        (lambda f: (f / "left").rename(f / "le\tft"), "holds a tab or the like: rename it"),
    ],
)
def test_wrong_folders(folder, run, tmp_path, capsys, change, message):
    change(folder)
    with pytest.raises(InputError, match=message):
        PictureHypernet.load(run).write_from(folder)


def test_pictures_of_any_size_and_shape(tmp_path):
    sizes = [(40, 40), (300, 200), (30, 90), (1, 1)]
    pixels = SCALE.pixels(Image.new("L", size, 205) for size in sizes)
    assert pixels.shape == (4, 1, 28, 28) and pixels[0].min() == pixels.max()
    assert (
        pixels[2, 0, :, 0].abs().max() == 0 and pixels[2, 0, :, 14].min() > 0
    )  # paper at the sides is white, which is 0
    photos = PictureScale(8, 3, 128.0, 128.0, inverted=False)
    wide = Image.new("RGB", (40, 10), "black")
    wide.paste("white", (15, 0, 25, 10))
    assert (photos.pixels([wide]) > 0.9).all()  # the middle square


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (50, 50)])
def test_a_drawing_is_padded_to_a_square_and_scaled(size):
    values = np.random.default_rng(0).integers(100, 256, (size[1], size[0]), dtype=np.uint8)
    square = np.full((max(size), max(size)), 255, np.uint8)
    top, left = (max(size) - size[1]) // 2, (max(size) - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = values
    expected = 255.0 - np.asarray(Image.fromarray(square).resize((28, 28), Image.Resampling.BOX))
    found = SCALE.pixels([Image.fromarray(values)])[0, 0] * SCALE.std + SCALE.mean
    assert np.abs(found.numpy() - expected).max() <= 1  # the order of rounding


def test_a_long_strip_takes_no_large_square():
    """A square of its length would hold 40 gigabytes."""
    strip = Image.new("L", (200_000, 4), 255)
    strip.paste(0, (99_000, 0, 101_000, 4))
    pixels = SCALE.pixels([strip])[0, 0]
    assert pixels.shape == (28, 28) and pixels[:, :12].abs().max() == 0


def test_wrong_models_and_files(run, tmp_path):
    with pytest.raises(InputError, match="is no HyperTransformer"):
        PictureHypernet.load(tmp_path)
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(InputError, match="holds no CNN"):
        PictureClassifier.load(tmp_path / "a.safetensors")
    for wrong in (
        {"side": 0},
        {"channels": 2},
        {"mean": "x"},
        {"std": 0},
        {"inverted": 1},
        {"std": float("nan")},
    ):
        with pytest.raises(InputError):
            PictureScale.checked(**(SCALE._asdict() | wrong))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["a"]}, "is damaged"),
        ({"classes": "ab"}, "no list of texts"),
        ({"network": {}}, "is damaged"),
        ({"network": {"channels": 10**6}}, "is damaged"),
        ({"pictures": {}}, "expected a side"),
    ],
)
def test_damaged_files(folder, run, tmp_path, change, message):
    path = tmp_path / "net.safetensors"
    PictureHypernet.load(run).write_from(folder).save(path)
    record, tensors = json.loads(read_metadata(path)["weightgen"]), read_tensors(path)
    write_tensors(path, tensors, {"weightgen": json.dumps(record | change)})
    with pytest.raises(InputError, match=message):
        PictureClassifier.load(path)
    tensors["head.bias"][0] = torch.nan
    write_tensors(path, tensors, {"weightgen": json.dumps(record)})
    with pytest.raises(InputError, match="NaN"):
        PictureClassifier.load(path)


def test_what_predict_needs(folder, run, tmp_path, capsys):
    write_json(tmp_path / "x.json", {})
    output = str(tmp_path / "net.safetensors")
    main(["write", str(folder), "--model", run, "--output", output])
    write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)})
    for words in (
        ["predict", output, "a.png", "--model", "photos"],
        ["predict", str(tmp_path / "other.safetensors"), "a.png"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "leave out --model" in told and "add --model" in told
    for wrong in ("none.safetensors", "x.json"):  # the file is what is wrong, not the missing --model
        with pytest.raises(SystemExit):
            main(["predict", str(tmp_path / wrong), "a.png"])
        told = capsys.readouterr().err
        assert wrong in told and "--model" not in told
