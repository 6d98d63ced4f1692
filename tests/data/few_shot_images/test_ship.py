"""Making a model of the package from a training run: its weights, and a card that says what was measured."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from weightgen.hypernets import HyperTransformer
from weightgen.networks import ConvNet
from weightgen.pipelines.picture_hypernet import PictureHypernet
from weightgen.storage.files import write_json

SETTINGS = {"mean": 128.0, "std": 64.0, "ways": 5, "shots": 1, "batch_size": 4, "output": "here"}
REPORT = {
    "protocol": "made_up",
    "step": 3000,
    "results": {"transductive, disjoint": {"accuracy": 31.4, "interval": 0.7}},
    "training": {"settings": SETTINGS | {"output": "there"}},
}


@pytest.fixture
def ship(root, tmp_path, monkeypatch):
    """The script on a run with this CNN and this report."""
    spec = importlib.util.spec_from_file_location("ship", root / "data/few_shot_images/ship.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def shipped(hypernet, card, report):
        hypernet.save_pretrained(tmp_path / "run/hypernet")
        write_json(tmp_path / "run/training.json", {"settings": SETTINGS, "step": 3000})
        write_json(tmp_path / "results.json", report)
        words = ["--run", tmp_path / "run", "--card", card, "--results", tmp_path / "results.json"]
        monkeypatch.setattr(
            sys, "argv", ["ship.py", *map(str, words), "--output-dir", str(tmp_path / "shipped")]
        )
        module.main()

    return shipped


def writer(channels=1, generated=None):
    torch.manual_seed(0)
    return HyperTransformer(ConvNet(4, 5, 14, channels, depth=2), generated=generated, layers=1)


@pytest.mark.parametrize(
    ("data_set", "channels", "generated", "written"),
    [("cifar_fs", 3, [2], "the last layer"), ("omniglot", 1, None, "all weights"), ("omniglot", 1, [0, 2], "2 of 3 layers")],
)  # fmt: skip
def test_a_model_and_its_card(root, tmp_path, ship, data_set, channels, generated, written):
    hypernet = writer(channels, generated)
    for _ in range(2):  # the second time the folder is replaced
        ship(hypernet, root / f"data/{data_set}/card.md", REPORT)
    model = PictureHypernet.load(tmp_path / "shipped")
    assert (model.scale.channels, model.scale.inverted) == (channels, channels == 1)
    for name, value in hypernet.state_dict().items():
        torch.testing.assert_close(model.hypernet.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    card = (tmp_path / "shipped/README.md").read_text()
    assert "# shipped" in card and "12,000 episodes, 5 classes with 1 labelled" in card
    assert (
        f"it writes {written} of a CNN" in card
        and "| made_up | transductive, disjoint | 31.4 ± 0.7 |" in card
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 2000}, "another training: step differs"),
        ({"training": {"settings": SETTINGS | {"std": 128.0}}}, "another training: std differs"),
        ({"training": None}, "is no report of"),
    ],
)
def test_results_of_another_training(root, tmp_path, ship, capsys, change, message):
    report = {name: value for name, value in (REPORT | change).items() if value is not None}
    with pytest.raises(SystemExit):
        ship(writer(), root / "data/omniglot/card.md", report)
    assert message in capsys.readouterr().err and not (tmp_path / "shipped").exists()


def test_a_card_with_an_unknown_brace(tmp_path, ship, capsys):
    (tmp_path / "card.md").write_text("# {name}, {licence}")
    with pytest.raises(SystemExit):
        ship(writer(), tmp_path / "card.md", REPORT)
    assert "not one of name, episodes," in capsys.readouterr().err and not (tmp_path / "shipped").exists()


def test_a_folder_of_something_else_stays(root, tmp_path, ship, capsys):
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped/thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit):
        ship(writer(), root / "data/omniglot/card.md", REPORT)
    assert "this script did not make it" in capsys.readouterr().err
    assert (tmp_path / "shipped/thesis.txt").read_text() == "years of work"


def test_a_card_that_is_not_there(root, tmp_path):
    words = ["--run", "omniglot-8ch-1shot", "--card", "none.md", "--output-dir", str(tmp_path / "shipped")]
    done = subprocess.run(
        [sys.executable, root / "data/few_shot_images/ship.py", *words], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: no file none.md: expected the card")
    assert not (tmp_path / "shipped").exists()
