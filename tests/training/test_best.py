"""The best state, which lies in a file beside the checkpoints."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from torch import nn

from weightgen import InputError
from weightgen.training.best import Best
from weightgen.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(folder=tmp_path, accelerator=PartialState(cpu=True), optimizer=None)


def names(run):
    return sorted(path.name for path in run.folder.glob("best-*"))


def test_it_is_kept_and_ties_go_to_the_earlier(run, tmp_path):
    network = nn.Linear(1, 1)
    best = Best(run, network, 0.5)
    for step, score in ((1, 0.5), (2, 0.75), (3, 0.75), (4, 0.1)):
        nn.init.constant_(network.weight, float(step))
        best.update(step, score, more=step)
    save_checkpoint(tmp_path / "checkpoint-00000004.safetensors", {"best": best}, None, 4)
    other = Best(run, network, 0.0)
    load_checkpoint(tmp_path / "checkpoint-00000004.safetensors", {"best": other})
    assert other.restore() == {"step": 2, "validation_accuracy": 0.75, "more": 2}
    assert network.weight.item() == 2
    start = Best(run, network, 1.0)
    start.update(1, 1.0)
    assert start.facts["step"] == 0


def test_files_stay_while_a_checkpoint_needs_them(run):
    best = Best(run, nn.Linear(1, 1))
    for step in (1, 2, 3):
        best.update(step, float(step))
    (run.folder / "best-of-all.safetensors").write_text("not ours")
    best.keep([{"step": 1}])
    assert names(run) == [
        "best-00000001.safetensors",
        "best-00000003.safetensors",
        "best-of-all.safetensors",
    ]


def test_a_damaged_file_is_refused(run):
    best = Best(run, nn.Linear(1, 1))
    path = run.folder / names(run)[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="its checksum is wrong"):
        best.check(best.facts)
    with pytest.raises(InputError, match="its checksum is wrong"):
        best.restore()
    path.unlink()
    with pytest.raises(InputError, match="no file"):
        best.restore()


def test_the_start_is_written_anew_where_no_checkpoint_needs_it(run):
    network = nn.Linear(1, 1)
    nn.init.constant_(network.weight, 1.0)
    Best(run, network)
    nn.init.constant_(network.weight, 2.0)
    best = Best(run, network)  # a run that was killed before its first checkpoint, with other settings
    nn.init.constant_(network.weight, 3.0)
    best.restore()
    assert torch.equal(network.weight, torch.full((1, 1), 2.0))
