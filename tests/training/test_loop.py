import pytest
import torch
from torch import nn
from torch.testing import assert_close

from weightgen import InputError, Standardizer
from weightgen.storage.files import read_metadata, write_tensors
from weightgen.training.averages import Average
from weightgen.training.checkpoint import load_checkpoint, save_checkpoint
from weightgen.training.loop import Mean, seed_step
from weightgen.training.schedules import warmup_cosine

OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw, two groups": lambda p: torch.optim.AdamW(
        [{"params": [*p][:1], "weight_decay": 0.1}, {"params": [*p][1:]}]
    ),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
}


class Run:
    """A tiny training run with dropout, a schedule, and an average of its weights."""

    def __init__(self, optimizer):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 1), Standardizer(1))
        self.network[3].fit(torch.randn(5, 1))
        self.average = Average(self.network, decay=0.9)
        self.optimizer = OPTIMIZERS[optimizer](list(self.network.parameters()))
        self.modules = {"network": self.network, "average": self.average}

    def train(self, start, stop):
        for step in range(start, stop):
            seed_step(5, step)
            for group in self.optimizer.param_groups:
                group["lr"] = 0.01 * warmup_cosine(step, steps=10, warmup=3)
            self.optimizer.zero_grad()
            self.network(torch.randn(16, 4)).square().mean().backward()
            self.optimizer.step()
            self.average.update_parameters(self.network)

    def state(self):
        state = {f"{n}.{k}": v for n, m in self.modules.items() for k, v in m.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            state |= {f"{index}.{k}": torch.as_tensor(v) for k, v in values.items() if v is not None}
        return state


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("pause", [0, 1, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, optimizer, pause):
    whole = Run(optimizer)
    whole.train(0, 7)

    first = Run(optimizer)
    first.train(0, pause)
    save_checkpoint(tmp_path / "c.safetensors", first.modules, first.optimizer, pause)
    second = Run(optimizer)
    second.train(0, 2)  # whatever it did before is forgotten
    second.optimizer = OPTIMIZERS[optimizer](list(second.network.parameters()))
    step = load_checkpoint(tmp_path / "c.safetensors", second.modules, second.optimizer)
    assert step == pause
    second.train(step, 7)

    expected, got = whole.state(), second.state()
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(got[name], value), name
    assert any(not torch.equal(value, first.state()[name]) for name, value in expected.items())


def test_an_interrupted_save_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    run = Run("adam")
    save_checkpoint(tmp_path / "c.safetensors", run.modules, run.optimizer, 1)

    def interrupted(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("weightgen.storage.files.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "c.safetensors", run.modules, run.optimizer, 2)
    assert load_checkpoint(tmp_path / "c.safetensors", run.modules, run.optimizer) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_wrong_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    run = Run("adam")
    with pytest.raises(InputError, match="no file"):
        load_checkpoint(path, run.modules)
    write_tensors(path, {"a": torch.ones(1)})
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(path, run.modules)
    save_checkpoint(path, run.modules, run.optimizer, 1)
    assert "checkpoint" in read_metadata(path)
    with pytest.raises(InputError, match="another model"):
        load_checkpoint(path, {"network": nn.Linear(3, 3)})


def test_an_optimizer_does_not_go_on_with_the_state_of_other_parameters(tmp_path):
    def made(names):
        network = nn.ModuleDict({name: nn.Linear(3, 3) for name in names})
        optimizer = torch.optim.Adam(network.parameters())
        sum(layer(torch.ones(3)).sum() for layer in network.values()).backward()
        optimizer.step()
        return {"network": network}, optimizer

    path = tmp_path / "c.safetensors"
    save_checkpoint(path, *made(["a", "b"]), 1)
    load_checkpoint(path, *made(["a", "b"]))
    with pytest.raises(
        InputError, match="parameter 0 of the optimizer was network/a.weight and is network/b.weight"
    ):
        load_checkpoint(path, *made(["b", "a"]))


def test_a_bit_that_flips_is_seen(tmp_path):
    path, run = tmp_path / "c.safetensors", Run("adam")
    save_checkpoint(path, run.modules, run.optimizer, 1)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged: its checksum is wrong"):
        load_checkpoint(path, run.modules, run.optimizer)


def test_means_begin_anew_when_they_are_taken():
    mean = Mean(["loss"])
    for value in (1.0, 2.0, 6.0):
        mean.update({"loss": torch.tensor(value), "other": torch.tensor(9.0)})
    assert mean.take() == {"loss": 3.0}
    mean.update({"loss": torch.tensor(5.0)})
    assert mean.take() == {"loss": 5.0}


def test_seeds_are_a_function_of_run_and_step():
    def draw(*key):
        seed_step(*key)
        return torch.rand(4).tolist()

    assert draw(1, 2) == draw(1, 2)
    assert len({tuple(draw(*key)) for key in [(1, 2), (2, 1), (1, 3), (0, 0)]}) == 4
    with pytest.raises(InputError, match="seed from 0 up, got -1"):
        seed_step(-1, 0)


def test_the_schedule_rises_and_falls():
    factors = [warmup_cosine(step, steps=110, warmup=10) for step in range(111)]
    assert_close(factors[:10], [0.1 * (i + 1) for i in range(10)])
    assert factors[10] == 1.0
    assert_close(factors[60], 0.5)
    assert factors[110] == 0.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert warmup_cosine(0, steps=0) == 1.0
    assert warmup_cosine(200, steps=110) == 0.0
