"""Averages of what is trained: their decay, what they share, and where large ones lie."""

import resource
import signal
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from weightgen import InputError, Standardizer
from weightgen.training import averages
from weightgen.training.averages import Average
from weightgen.training.checkpoint import load_checkpoint, save_checkpoint
from weightgen.training.kills import end, start


def test_it_forgets_its_start_and_then_is_slow():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), Standardizer(1))
    weight = network[0].weight
    averaged = Average(network, decay=0.75)
    kept = None
    for update in range(60):
        nn.init.constant_(weight, float(update))
        network[1].count.fill_(update)
        averaged.update_parameters(network)
        decay = min(0.75, (1 + update) / (10 + update))
        kept = float(update) if kept is None else decay * kept + (1 - decay) * update
    assert_close(averaged.module[0].weight.item(), kept)
    assert averaged.module[1].count == 59
    assert not averaged.module[0].weight.requires_grad
    assert weight.requires_grad


def half_frozen(width=64):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))
    network[0].requires_grad_(False)
    return network


def resident(average):
    """KB of the average's file that count as memory of this process."""
    address, found = average.module[0].weight.data_ptr(), False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            low, high = (int(part, 16) for part in words[0].split("-"))
            found = low <= address < high
        elif found and words[0] == "Rss:":
            return int(words[1])
    raise AssertionError("it is nowhere in memory")


@pytest.fixture
def average(tmp_path, monkeypatch):
    """The average of a network, in a file as if it were large."""
    monkeypatch.setattr(averages, "LARGE", 0)
    network = half_frozen()
    return network, Average(network, 0.5, tmp_path)


def test_a_large_one_lies_in_a_file_and_has_the_same_numbers(average, tmp_path):
    network, large = average
    other = half_frozen()
    small = Average(other, 0.5)
    for update in range(4):
        for one in (network, other):
            nn.init.constant_(one[1].weight, float(update))
        large.update_parameters(network)
        small.update_parameters(other)
        assert resident(large) > 16
        large.release()
        assert resident(large) == 0
    for name, value in small.state_dict().items():
        assert torch.equal(large.state_dict()[name], value), name
    assert [*tmp_path.iterdir()] == []  # nothing is left of it when the process is killed
    assert torch.equal(network(torch.ones(1, 64)), other(torch.ones(1, 64)))


def test_frozen_parameters_are_there_once_and_stored_once(average, tmp_path):
    network, large = average
    assert large.module[0].weight.data_ptr() == network[0].weight.data_ptr()
    assert large.module[1].weight.data_ptr() != network[1].weight.data_ptr()
    parts = {"network": network, "average": large}
    save_checkpoint(tmp_path / "c.safetensors", parts, None, 1)
    assert 3 * 64 * 64 * 4 < (tmp_path / "c.safetensors").stat().st_size < 3.5 * 64 * 64 * 4
    apart = {"network": half_frozen(), "average": Average(half_frozen())}  # two that share nothing
    for part in apart.values():
        for value in part.state_dict().values():
            value.zero_()
    load_checkpoint(tmp_path / "c.safetensors", apart)
    for name, part in parts.items():
        for key, value in part.state_dict().items():
            assert torch.equal(apart[name].state_dict()[key], value), key


def test_what_was_frozen_may_not_be_trained(average):
    network, large = average
    network[0].requires_grad_(True)
    with pytest.raises(RuntimeError, match="frozen"):
        large.update_parameters(network)


def test_a_full_disk_is_found_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(averages, "LARGE", 0)

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            Average(half_frozen(), 0.5, tmp_path)
        except InputError as error:
            raise SystemExit(3 if "cannot write the average" in str(error) else 4) from None

    assert end(start(run)) == 3
