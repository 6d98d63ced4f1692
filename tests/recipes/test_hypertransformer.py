"""The recipe of the HyperTransformer, run as it is: train, go on, begin at another run."""

import runpy
import sys

import numpy as np
import pytest

from tests.data.few_shot_images.made_up_caches import mini_imagenet, python3, tiered_imagenet
from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.storage.files import read_json, read_tensors
from weightgen.training import read_metrics

SMALL = [
    "network={channels: 4, depth: 2}", "hypernet.layers=1", "ways=3", "queries=2", "batch_size=2", "validate_every=2",
    "validation_episodes=4", "decay_steps=4", "warmup=1", "unlabeled=1", "hide=0.5", "hide_steps=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data") / "arrays"
    splits = {"train": range(6), "validation": range(6, 9), "test": range(9, 12)}
    images = rng.integers(0, 256, (120, 14, 14), dtype=np.uint8)
    write_few_shot_arrays(folder, images, np.repeat(np.arange(12), 10), list("abcdefghijkl"), splits, {})
    return folder


def run(root, monkeypatch, name, *words):
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    return runpy.run_path(str(root / "recipes" / name), run_name="__main__")


def train(root, monkeypatch, data, output, *words):
    run(root, monkeypatch, "train_hypertransformer.py", f"data={data}", f"output={output}", *SMALL, *words)


def test_what_a_run_writes(root, monkeypatch, data, tmp_path):
    train(root, monkeypatch, data, tmp_path / "run", "steps=6")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["episodes"] for row in rows] == [4, 8, 12] and all(0 <= row["accuracy"] <= 1 for row in rows)
    facts = read_json(tmp_path / "run/training.json")
    assert facts["step"] == 6 and facts["settings"]["ways"] == 3
    assert facts["hypernet"].endswith(".HyperTransformer")


def test_another_number_of_shots_may_begin_at_an_earlier_model(root, monkeypatch, data, tmp_path):
    train(root, monkeypatch, data, tmp_path / "one", "steps=2")
    one = read_tensors(tmp_path / "one" / "hypernet" / "model.safetensors")
    start = f"start={tmp_path / 'one'}"
    train(root, monkeypatch, data, tmp_path / "two", "steps=1", "shots=2", start, "lr=1e-12")
    two = read_tensors(tmp_path / "two" / "hypernet" / "model.safetensors")
    assert all((one[name] - two[name]).abs().max() < 1e-6 for name in one)


def failure(root, monkeypatch, capsys, name, *words):
    """The one line in which a recipe fails."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(root, monkeypatch, name, *words)
    error = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and len(error) == 1, error
    return error[0]


def test_another_model_than_that_of_the_start_is_one_line(root, monkeypatch, data, tmp_path, capsys):
    train(root, monkeypatch, data, tmp_path / "one", "steps=1")
    words = [f"data={data}", f"output={tmp_path / 'two'}", *SMALL, f"start={tmp_path / 'one'}", "steps=1"]
    for change, message in (
        ("network={channels: 8, depth: 2}", "has channels=4, and the settings say 8"),
        ("hypernet.layers=2", "has layers=1, and the settings say 2"),
        ("ways=2", "has num_classes=3, and the settings say 2"),
        ("std=64", "has std=128.0, and the settings say 64"),
    ):
        assert message in failure(root, monkeypatch, capsys, "train_hypertransformer.py", *words, change)
        assert not (tmp_path / "two").exists()


def test_a_run_goes_on_with_more_steps_and_another_optimiser(root, monkeypatch, data, tmp_path, capsys):
    output = tmp_path / "run"
    train(root, monkeypatch, data, output, "steps=6", "validate_every=4")
    words = [f"data={data}", f"output={output}", *SMALL]
    with pytest.raises(SystemExit) as caught:
        run(root, monkeypatch, "train_hypertransformer.py", *words, "steps=6")
    assert caught.value.code == 0 and "finished already" in capsys.readouterr().out
    for change, message in (
        ("std=64", "with std=128.0, and now std=64.0"),
        ("hypernet.layers=2", "and now hypernet="),
    ):
        assert message in failure(root, monkeypatch, capsys, "train_hypertransformer.py", *words, change)
    train(root, monkeypatch, data, output, "steps=8", "validate_every=4", "beta2=0.5")
    assert [row["step"] for row in read_metrics(output / "metrics.jsonl")] == [4, 6, 8]
    phases = read_json(output / "run.json")["phases"]
    assert [(phase["from_step"], phase["beta2"]) for phase in phases] == [(0, 0.999), (6, 0.5)]


def test_the_log_after_going_on_is_the_mean_of_the_steps_since(root, monkeypatch, data, tmp_path):
    from weightgen.objectives.episodic import EpisodicLoss

    seen = []
    original = EpisodicLoss.forward

    def forward(self, batch):
        outcome = original(self, batch)
        seen.append(outcome.metrics["loss"].item())
        return outcome

    monkeypatch.setattr(EpisodicLoss, "forward", forward)
    train(root, monkeypatch, data, tmp_path / "run", "steps=5", "validate_every=4")
    train(root, monkeypatch, data, tmp_path / "run", "steps=8", "validate_every=4")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 5, 8] and len(seen) == 8
    assert rows[2]["loss"] == pytest.approx(np.mean(seen[5:]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ways=7"], "7 ways need as many classes"),
        (["shots=9"], "12 images per class are needed"),
        (["train_splits=[trian]"], "no split 'trian'"),
        (["network={chanels: 4}"], "chanels"),
        (["steps=1", "data=nowhere"], "data=nowhere: there is no such file"),
        (["decay_steps=0"], "from 1 up"),
        (["validation_episodes=0"], "from 1 up"),
        (["ema_decay=2"], "ema_decay in [0, 1)"),
        (["hide_steps=0"], "write unlabeled and hide_steps"),
        (["unlabeled=0"], "write unlabeled and hide_steps"),
        (["hide=2"], "hide in [0, 1]"),
        (["train_splits=[]"], "at least one split"),
        (["train_splits=[train,train]"], "train twice"),
        (["groups=2"], "classes of more than one"),
        (["hypernet.generated=2"], "generated"),
    ],
)
def test_wrong_settings_are_one_line(root, monkeypatch, data, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        train(root, monkeypatch, data, tmp_path / "out", *words)
    error = capsys.readouterr().err.strip().splitlines()
    assert caught.value.code == 2 and len(error) == 1 and message in error[0]
    assert not (tmp_path / "out").exists()


def test_images_of_another_size_are_one_line(root, monkeypatch, data, tmp_path, capsys):
    train(root, monkeypatch, data, tmp_path / "run", "steps=1")
    splits = {"train": range(6), "validation": range(3), "test": range(3, 6)}
    images = np.zeros((60, 16, 16), np.uint8)
    larger = tmp_path / "larger"
    write_few_shot_arrays(larger, images, np.repeat(np.arange(6), 10), list("abcdef"), splits, {})
    words = [f"start={tmp_path / 'run'}", f"data={larger}", f"output={tmp_path / 'b'}", *SMALL]
    error = failure(root, monkeypatch, capsys, "train_hypertransformer.py", *words)
    assert "has image_size=14, and the settings say 16" in error


@pytest.mark.parametrize("name", ["mini_imagenet_1shot_8ch", "tiered_imagenet_5shot_32ch"])
def test_a_step_on_a_cache_with_changed_photos(root, monkeypatch, tmp_path, name):
    """The published layout, made up, with the configuration of its data set, but for the size of what is learned."""
    make = mini_imagenet if name.startswith("mini") else tiered_imagenet
    make(tmp_path / "cache", python3(4), size=20)
    monkeypatch.syspath_prepend(root / "data/few_shot_images")
    words = [f"--{make.__name__.replace('_', '-')}", tmp_path / "cache", "--output-dir", tmp_path / "data"]
    run(root, monkeypatch, "../data/few_shot_images/prepare.py", *words)
    config = root / f"recipes/configs/train_hypertransformer/{name}.yaml"
    words = ["ways=2", "shots=1", "queries=1", "batch_size=2", "network.depth=2", "steps=2", "validate_every=2", "decay_steps=2",
             "validation_episodes=2", "validation_queries=1"]  # fmt: skip
    words += ["--config", config, f"data={tmp_path / 'data'}"]
    run(root, monkeypatch, "train_hypertransformer.py", *words, f"output={tmp_path / 'run'}")
    run(
        root, monkeypatch, "train_hypertransformer.py", *words, f"output={tmp_path / 'plain'}", "augment=null"
    )
    changed, plain = (
        read_metrics(tmp_path / name / "metrics.jsonl")[-1]["loss"] for name in ("run", "plain")
    )
    assert np.isfinite(changed) and changed != plain


def test_a_change_of_photos_that_does_not_exist(root, monkeypatch, capsys, data, tmp_path):
    component = "_component_: weightgen.data.few_shot.augmentation.Augmentation"
    common = (f"data={data}", f"output={tmp_path / 'run'}", *SMALL)
    line = failure(
        root, monkeypatch, capsys, "train_hypertransformer.py", *common, f"augment={{{component}, colour: 1}}"
    )
    assert "colour" in line
    line = failure(
        root, monkeypatch, capsys, "train_hypertransformer.py", *common, f"augment={{{component}}}"
    )
    assert "write hue: 0" in line  # these images are grey
    line = failure(
        root,
        monkeypatch,
        capsys,
        "train_hypertransformer.py",
        *common,
        "augment={_component_: weightgen.data.few_shot.episodes.Episodes}",
    )
    assert "augment" in line
