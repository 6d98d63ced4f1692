"""The model of photographs of the package: it loads offline, and is better than chance on classes it has not seen."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from weightgen.cli import main
from weightgen.data.few_shot.cifar_fs import TEST
from weightgen.data.photos.knowledge import CLASSES
from weightgen.hypernets import HyperTransformer
from weightgen.pipelines.picture_hypernet import PictureHypernet

NAME = "cifar-fs-32ch-1shot"


def test_colours_by_name(tmp_path, capsys):
    """Three kinds of made-up pictures that nobody confuses, larger than those of the training."""
    hypernet = HyperTransformer.from_pretrained(NAME)
    assert (hypernet.network.channels, hypernet.network.num_classes, hypernet.network.image_channels) == (
        32,
        5,
        3,
    )
    rng, colours = (
        np.random.default_rng(0),
        {"red": (200, 40, 30), "green": (40, 170, 60), "blue": (40, 60, 200)},
    )
    for name, colour in colours.items():
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i in range(3):
            values = np.clip(np.array(colour) + rng.normal(0, 12, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(values).save(
                tmp_path / "pics" / name / f"{i}.png" if i else tmp_path / f"{name}.png"
            )
    main(["write", str(tmp_path / "pics"), "--model", NAME, "--output", str(tmp_path / "net.safetensors")])
    capsys.readouterr()
    main(["predict", str(tmp_path / "net.safetensors"), *(str(tmp_path / f"{name}.png") for name in colours)])
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == list(colours)


@pytest.fixture
def photos(shared):
    """Photos of the test classes by class."""
    pq = pytest.importorskip("pyarrow.parquet")
    paths = sorted((shared / "data/cifar100").rglob("test-*.parquet"))
    if not paths:
        pytest.skip("no photos of CIFAR-100 beside the repository")
    found = {name: [] for name in TEST}
    for path in paths:
        table = pq.read_table(path, filters=[("fine_label", "in", [CLASSES.index(name) for name in TEST])])
        for row in table.slice(0, 1000).to_pylist():
            found[CLASSES[row["fine_label"]]].append(row["img"]["bytes"])
    return {name: [Image.open(io.BytesIO(each)) for each in files[:20]] for name, files in found.items()}


def test_classes_that_were_not_trained_on(photos):
    """300 photos, each classified for itself by a CNN from one photo of each class; 5 classes, so chance is 20 %."""
    model, rng, right = PictureHypernet.load(NAME), np.random.default_rng(0), []
    for _ in range(20):
        classes = [TEST[k] for k in rng.permutation(len(TEST))[:5]]
        drawn = {name: [photos[name][i] for i in rng.permutation(len(photos[name]))[:4]] for name in classes}
        made = model.write({name: pictures[:1] for name, pictures in drawn.items()})
        answers = made.probabilities([one for name in classes for one in drawn[name][1:]]).argmax(dim=1)
        right.append((answers == torch.arange(5).repeat_interleave(3)).float().mean())
    assert torch.stack(right).mean() > 0.28
