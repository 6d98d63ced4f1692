"""The recipes of the HyperTransformer, run as they are: train, stop, go on, evaluate."""

import json
import runpy
import sys

import numpy as np
import pytest

from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.storage.files import read_json, read_metadata, read_tensors
from weightgen.training.checkpoint import read_metrics

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


def test_a_stopped_run_goes_on_as_if_it_had_not(root, monkeypatch, data, tmp_path, capsys):
    train(root, monkeypatch, data, tmp_path / "whole", "steps=6")
    whole = read_tensors(tmp_path / "whole" / "checkpoint.safetensors")

    def stop(*_, done=[]):  # noqa: B006
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        import weightgen.training.checkpoint

        original = weightgen.training.checkpoint.log_metrics
        patch.setattr(weightgen.training.checkpoint, "log_metrics", lambda *a: (original(*a), stop()))
        with pytest.raises(SystemExit) as caught:
            train(root, monkeypatch, data, tmp_path / "stopped", "steps=6")
        assert caught.value.code == 130
    assert read_metrics(tmp_path / "stopped" / "metrics.jsonl")[-1]["step"] == 4
    train(root, monkeypatch, data, tmp_path / "stopped", "steps=6", "resume=true")
    again = read_tensors(tmp_path / "stopped" / "checkpoint.safetensors")
    assert whole.keys() == again.keys()
    for name, value in whole.items():
        assert value.equal(again[name]), name
    rows = [read_metrics(tmp_path / part / "metrics.jsonl") for part in ("whole", "stopped")]
    assert rows[0] == rows[1] and [row["episodes"] for row in rows[0]] == [4, 8, 12]

    output = tmp_path / "result.json"
    capsys.readouterr()
    run(
        root, monkeypatch, "evaluate_episodes.py", f"run={tmp_path / 'stopped'}", f"data={data}",
        f"output={output}", "episodes=9", "queries=3",
    )  # fmt: skip
    report = read_json(output)
    assert json.loads(capsys.readouterr().out)["results"] == report["results"]
    assert report["episodes_trained"] == 12 and report["split"] == "test"
    assert [phase["from_step"] for phase in report["training"]] == [0, 4]
    assert len(report["results"]) == 4
    assert all(0 <= r["accuracy"] <= 100 and r["interval"] > 0 for r in report["results"].values())


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
    ):
        assert message in failure(root, monkeypatch, capsys, "train_hypertransformer.py", *words, change)
        assert not (tmp_path / "two").exists()


def test_a_run_goes_on_with_more_steps_and_another_optimiser(root, monkeypatch, data, tmp_path, capsys):
    output = tmp_path / "run"
    train(root, monkeypatch, data, tmp_path / "whole", "steps=6", "validate_every=4")
    train(root, monkeypatch, data, output, "steps=6", "validate_every=4")
    words = [f"data={data}", f"output={output}", *SMALL, "resume=true"]
    for change, message in (
        ("steps=6", "has done 6 steps already"),
        ("std=64", "was trained with std=128.0, and cannot go on with 64.0"),
        ("hypernet.layers=2", "and cannot go on with"),
    ):
        assert message in failure(root, monkeypatch, capsys, "train_hypertransformer.py", *words, change)
    train(root, monkeypatch, data, output, "steps=8", "validate_every=4", "beta2=0.5", "resume=true")
    rows = read_metrics(output / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 6, 8]
    kept = read_metadata(output / "checkpoint.safetensors")["checkpoint"]
    assert json.loads(kept)["groups"][0]["betas"] == [0.9, 0.5]
    capsys.readouterr()
    # What a run ends at is what its last phase says, so that watching ends.
    run(
        root,
        monkeypatch,
        "evaluate_episodes.py",
        f"run={output}",
        f"data={data}",
        "watch=true",
        "episodes=4",
        "queries=2",
    )
    assert json.loads(capsys.readouterr().out)["step"] == 8
    for change, message in (("episodes=1", "two episodes"), ("device=gpu", "cannot compute on 'gpu'")):
        words = [f"run={output}", f"data={data}", change]
        assert message in failure(root, monkeypatch, capsys, "evaluate_episodes.py", *words)


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
    train(root, monkeypatch, data, tmp_path / "run", "steps=8", "validate_every=4", "resume=true")
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
        (["steps=1", "data=nowhere"], "cannot read"),
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
    for name, words, message in (
        (
            "evaluate_episodes.py",
            [f"run={tmp_path / 'run'}", f"data={larger}"],
            "expected images (B, N, 1, 14, 14)",
        ),
        (
            "train_hypertransformer.py",
            [f"start={tmp_path / 'run'}", f"data={larger}", f"output={tmp_path / 'b'}", *SMALL],
            "has image_size=14, and the settings say 16",
        ),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            run(root, monkeypatch, name, *words)
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and message in error[0]


def test_nothing_to_evaluate_is_one_line(root, monkeypatch, data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(root, monkeypatch, "evaluate_episodes.py", f"run={tmp_path}", f"data={data}")
    assert "no checkpoint yet" in capsys.readouterr().err
