"""Numbers of a run in a tracker, beside metrics.jsonl."""

from dataclasses import dataclass, replace

import pytest
import torch
from accelerate.tracking import GeneralTracker
from torch import nn

from weightgen import InputError, training
from weightgen.tasks import TaskBatchSampler
from weightgen.training import trackers


@dataclass
class Config(training.RunConfig):
    steps: int = 3


def main(cfg, watch=None):
    run = training.start_run(cfg)
    if watch is not None:
        run.accelerator.trackers = [watch]
    network = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(network.parameters())
    training.resume(run, optimizer, network=network)
    for step, _ in training.steps(run, TaskBatchSampler([1] * 5, 2, cfg.steps, cfg.seed)):
        loss = network(torch.ones(4, 2)).square().mean()
        training.update(run, optimizer, loss, network.parameters(), lr=0.1, max_grad_norm=1.0)
        training.log_metrics(run, step + 1, {"loss": loss.detach(), "broken": float("nan")})
    training.finish(run, lambda folder: None)


class Recorder(GeneralTracker):
    name = "recorder"
    requires_logging_directory = False

    def __init__(self):
        super().__init__()
        self.rows, self.finished = [], False

    @property
    def tracker(self):
        return None

    def store_init_configuration(self, values):
        self.settings = values

    def log(self, values, step=None, **_):
        self.rows.append((step, values))

    def finish(self):
        self.finished = True


def test_a_tracker_gets_what_the_log_gets(tmp_path):
    watch = Recorder()
    main(Config(str(tmp_path / "out")), watch)
    rows = training.read_metrics(tmp_path / "out/metrics.jsonl")
    assert watch.rows == [(row["step"], {"loss": row["loss"]}) for row in rows] and len(rows) == 3
    assert watch.finished and not (tmp_path / "out.logs").exists()


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    main(Config(str(tmp_path / "out"), report_to="tensorboard"))
    events = list((tmp_path / "out.logs").rglob("events.out.tfevents*"))
    assert any(b"loss" in file.read_bytes() for file in events)
    assert (tmp_path / "out/run.json").is_file()


def test_where_it_reports_is_no_part_of_a_run(tmp_path):
    cfg = Config(str(tmp_path / "out"))
    main(cfg)
    with pytest.raises(SystemExit) as caught:  # finished already, and the same run
        main(replace(cfg, report_to="none"))
    assert caught.value.code == 0
    assert "report_to" not in training.runs.read_json(tmp_path / "out/run.json")["settings"]


def test_wrong_trackers(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="one of none, tensorboard, wandb, trackio"):
        main(Config(str(tmp_path / "out"), report_to="mlflow"))
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(InputError, match="pip install wandb"):
        main(Config(str(tmp_path / "out"), report_to="wandb"))
    assert not list(tmp_path.iterdir())
    assert trackers.TRACKERS["none"] is None
