"""Runs: where they begin and go on, what they refuse, what is left behind."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from omegaconf import MISSING
from torch import nn

from weightgen import InputError, training
from weightgen.networks import MLP
from weightgen.storage.files import read_json, read_metadata, read_tensors
from weightgen.tasks import TaskBatchSampler
from weightgen.training import checkpoint, loop, resuming, runs
from weightgen.training.interrupts import Stopped
from weightgen.training.kills import end, start


@dataclass
class Config(training.RunConfig):
    data: str = MISSING
    steps: int = 7
    lr: float = 0.1
    batch_size: int = 2
    checkpoint_every: int = 2


def main(cfg):
    """A recipe with all its parts: randomness, an average, the best state, a log."""
    run = training.start_run(cfg, reads=("data",), may_change=("steps",))
    network = MLP(3, [4], 1)
    average = training.Average(network, 0.9, run.folder)
    optimizer = torch.optim.Adam(network.parameters(), lr=cfg.lr)
    best = training.Best(run, average.module)
    training.resume(run, optimizer, network=network, average=average, best=best)
    for step, rows in training.steps(run, TaskBatchSampler([1] * 5, cfg.batch_size, cfg.steps, cfg.seed)):
        loss = network(torch.randn(4, 3) * sum(rows)).square().mean()
        training.update(run, optimizer, loss, network.parameters(), lr=cfg.lr, max_grad_norm=1.0)
        average.update_parameters(network)
        best.update(step + 1, torch.rand(()).item())
        training.log_metrics(run, step + 1, {"loss": loss.detach()})
    training.save_run(run, best.restore(), go_on=True, network=average.module)


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "data").write_text("data")
    return Config(output=str(tmp_path / "out"), data=str(tmp_path / "data"))


@pytest.fixture
def at_step(monkeypatch):
    """Do something when a step begins."""
    seed_step = loop.seed_step

    def patch(step, action):
        def seeded(seed, number):
            if number == step:
                action()
            seed_step(seed, number)

        monkeypatch.setattr(loop, "seed_step", seeded)

    yield patch
    monkeypatch.setattr(loop, "seed_step", seed_step)


def test_all_have_read_the_best_state_before_its_folder_goes(cfg, monkeypatch):
    """Another process may be slower, and still read when the main process writes the output."""
    unfinished, seen = Path(cfg.output + ".unfinished"), []
    monkeypatch.setattr("weightgen.training.best.load_checkpoint", lambda *_: seen.append("reads"))
    wait = Accelerator.wait_for_everyone
    monkeypatch.setattr(
        Accelerator, "wait_for_everyone", lambda self: seen.append(unfinished.is_dir()) or wait(self)
    )
    main(cfg)
    assert seen[seen.index("reads") :] == [
        "reads",
        True,
        False,
    ]  # all wait after reading, and then the folder goes


class Killed(BaseException):
    pass


def kill():
    raise Killed


def outcome(folder):
    tensors = {
        f"{path.relative_to(folder)}/{name}": value
        for path in sorted(folder.rglob("*.safetensors"))
        for name, value in read_tensors(path).items()
    }
    rows = training.read_metrics(folder / "metrics.jsonl")
    return tensors, rows, read_json(folder / "training.json")


def assert_same(one, other):
    (tensors, *facts), (others, *other_facts) = one, other
    assert facts == other_facts and tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize("step", [0, 1, 3, 6])
@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_a_stopped_run_goes_on_bit_for_bit(cfg, tmp_path, at_step, step, how, capsys):
    main(replace(cfg, output=str(tmp_path / "whole")))
    at_step(step, kill if how == "killed" else lambda: signal.raise_signal(signal.SIGINT))
    if how == "killed" or step < cfg.steps - 1:
        with pytest.raises(Killed if how == "killed" else Stopped) as caught:
            main(cfg)
        assert not (tmp_path / "out").exists() and (tmp_path / "out.unfinished").is_dir()
        if how == "interrupted":
            assert f"stopped after step {step + 1} of 7; the same command goes on" in str(caught.value)
        at_step(step, lambda: None)
    main(cfg)
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out", "whole"]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "network",
        "training.json",
        "run.json",
        "metrics.jsonl",
        "checkpoint-00000007.safetensors",
        "best-00000002.safetensors",
    }


def test_a_finished_run_says_so(cfg, capsys):
    main(cfg)
    before = os.stat(cfg.output)
    with pytest.raises(SystemExit) as caught:
        main(cfg)
    assert caught.value.code == 0 and "finished already, after 7 steps" in capsys.readouterr().out
    assert os.stat(cfg.output) == before


def test_a_run_goes_on_with_more_steps(cfg, tmp_path):
    main(replace(cfg, output=str(tmp_path / "whole"), steps=9))
    main(cfg)
    main(replace(cfg, steps=9))
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "out"))
    phases = read_json(tmp_path / "out/run.json")["phases"]
    assert phases == [{"from_step": 0, "steps": 7}, {"from_step": 7, "steps": 9}]


def test_a_stopped_run_can_end_where_it_is_and_not_before(cfg, tmp_path, at_step):
    at_step(4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Stopped):
        main(cfg)
    with pytest.raises(InputError, match="out has done 5 steps: expected as many or more, got 3"):
        main(replace(cfg, steps=3))
    main(replace(cfg, steps=5))
    assert read_json(tmp_path / "out/run.json")["steps"] == 5


@pytest.mark.parametrize("finished", [False, True])
def test_another_configuration_is_refused(cfg, tmp_path, at_step, finished):
    if finished:
        main(cfg)
    else:
        at_step(3, kill)
        with pytest.raises(Killed):
            main(cfg)
        at_step(3, lambda: None)
    with pytest.raises(InputError, match="with lr=0.1, and now lr=0.2"):
        main(replace(cfg, lr=0.2))
    (tmp_path / "data").write_text("other data")
    with pytest.raises(InputError, match="with other contents of data="):
        main(cfg)
    main(replace(cfg, lr=0.2, overwrite=True))
    assert read_json(tmp_path / "out/run.json")["settings"]["lr"] == 0.2


def test_data_may_lie_elsewhere(cfg, tmp_path):
    main(cfg)
    (tmp_path / "moved").write_text("data")
    with pytest.raises(SystemExit):
        main(replace(cfg, data=str(tmp_path / "moved")))


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(cfg, tmp_path, at_step, capsys):
    main(replace(cfg, output=str(tmp_path / "whole")))
    at_step(5, kill)
    with pytest.raises(Killed):
        main(cfg)
    at_step(5, lambda: None)
    names = sorted(path.name for path in (tmp_path / "out.unfinished").glob("*.safetensors"))
    checkpoints = [name for name in names if name.startswith("checkpoint")]
    assert checkpoints == ["checkpoint-00000002.safetensors", "checkpoint-00000004.safetensors"]
    newest = tmp_path / "out.unfinished" / checkpoints[-1]
    content = bytearray(newest.read_bytes())
    content[-3] ^= 4
    newest.write_bytes(content)
    main(cfg)
    error = capsys.readouterr().err
    assert "00000004.safetensors is damaged" in error and "goes on after step 2" in error
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "out"))


def test_a_truncated_checkpoint_that_no_later_one_replaces_does_not_end_the_run(
    cfg, tmp_path, at_step, capsys
):
    """Ctrl-C leaves one between two regular steps, so the next ones lie beside it."""
    main(replace(cfg, output=str(tmp_path / "whole")))
    at_step(5, kill)
    with pytest.raises(Killed):
        main(cfg)
    at_step(5, lambda: None)
    folder = tmp_path / "out.unfinished"
    newest = (folder / "checkpoint-00000004.safetensors").rename(folder / "checkpoint-00000005.safetensors")
    newest.write_bytes(newest.read_bytes()[:-100])
    main(cfg)
    error = capsys.readouterr().err
    assert "00000005.safetensors is truncated" in error and "goes on after step 2" in error
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "out"))


def test_a_damaged_best_state_is_reported_and_the_checkpoint_before_is_used(cfg, tmp_path, at_step, capsys):
    cfg = replace(cfg, seed=1)
    main(replace(cfg, output=str(tmp_path / "whole")))
    at_step(5, kill)
    with pytest.raises(Killed):
        main(cfg)
    at_step(5, lambda: None)
    before, newest = sorted((tmp_path / "out.unfinished").glob("checkpoint-*"))
    steps = [checkpoint.read_record(path)["facts"]["best"]["step"] for path in (before, newest)]
    assert steps[0] < steps[1], "the best state has changed between the checkpoints"
    (tmp_path / f"out.unfinished/best-{steps[1]:08d}.safetensors").write_bytes(b"damaged")
    main(cfg)
    error = capsys.readouterr().err
    assert f"best-{steps[1]:08d}.safetensors is truncated" in error and "goes on after step 2" in error
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "out"))


def test_a_checkpoint_of_an_earlier_version_is_refused(cfg, tmp_path, at_step):
    at_step(5, kill)
    with pytest.raises(Killed):
        main(cfg)
    at_step(5, lambda: None)
    for path in (tmp_path / "out.unfinished").glob("checkpoint-*"):
        record = json.loads(read_metadata(path)["checkpoint"])["record"]
        tensors = read_tensors(path) | {"best/0.weight": torch.ones(1)}
        checkpoint.write_collected(path, tensors, record)
    with pytest.raises(InputError, match="of an earlier version.*or remove .*out.unfinished"):
        main(cfg)


def test_a_full_disk_leaves_the_earlier_checkpoint(cfg, tmp_path):
    """No file may grow beyond a limit that the second checkpoint exceeds."""
    folder = tmp_path / "out.unfinished"

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        write = resuming.write_checkpoint

        def limited(run):
            if run.done == 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            write(run)

        loop.write_checkpoint = limited
        try:
            main(cfg)
        except InputError as error:
            told = "cannot write" in str(error) and len(str(error).splitlines()) == 1
            raise SystemExit(3 if told else 4) from None

    assert end(start(run)) == 3
    names = {path.name for path in folder.iterdir()}
    assert "checkpoint-00000002.safetensors" in names and not any("partial" in name for name in names), names
    main(cfg)
    assert (tmp_path / "out").is_dir() and not folder.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_no_recipe_made_is_never_replaced(cfg, tmp_path, overwrite):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="exists already, and no recipe made it"):
        main(replace(cfg, overwrite=overwrite))
    (tmp_path / "out").rename(tmp_path / "out.unfinished")
    with pytest.raises(InputError, match="out.unfinished exists already, and no recipe made it"):
        main(replace(cfg, overwrite=overwrite))
    assert (tmp_path / "out.unfinished/thesis.tex").read_text() == "years of work"


def test_an_output_of_another_recipe_is_refused(cfg, tmp_path):
    main(cfg)
    record = read_json(tmp_path / "out/run.json")
    (tmp_path / "out/run.json").write_text(json.dumps({**record, "recipe": "train_other"}))
    with pytest.raises(InputError, match="was made by train_other"):
        main(cfg)


def test_resume_never(cfg, at_step):
    at_step(3, kill)
    with pytest.raises(Killed):
        main(cfg)
    with pytest.raises(InputError, match="unfinished run: write resume=auto to go on"):
        main(replace(cfg, resume="never"))


def test_two_processes_do_not_write_one_output(cfg, tmp_path, root):
    (tmp_path / "out.unfinished").mkdir()
    holder = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "out.unfinished/lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(InputError, match="is in use: another process is writing it"):
            main(cfg)
        process.kill()
    main(cfg)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps from 1 up"),
        ({"batch_size": 0}, "batch_size from 1 up"),
        ({"checkpoint_every": 0}, "checkpoint_every from 1 up"),
        ({"seed": -1}, "seed from 0 up"),
        ({"lr": 0.0}, "lr above 0"),
        ({"resume": "yes"}, "resume=auto or resume=never"),
        ({"data": "nowhere"}, "data=nowhere: there is no such file"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_made(cfg, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        main(replace(cfg, **change))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_output_that_cannot_be_written_is_found_at_once(cfg, tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        main(replace(cfg, output=str(tmp_path / "data/out")))


@pytest.mark.parametrize(("keep", "advice"), [(2, ", or write keep_checkpoints=1"), (1, "")])
def test_too_little_room_is_found_at_once(cfg, monkeypatch, keep, advice):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    found = rf"GB for checkpoints, and 0.0 GB are free: make room, or choose another output{advice}$"
    with pytest.raises(InputError, match=found):
        main(replace(cfg, keep_checkpoints=keep))


def test_a_loss_that_is_not_finite_names_recipe_and_step(cfg, at_step, monkeypatch):
    def broken(self, inputs):
        return torch.full((4, 1), torch.nan, requires_grad=True)

    at_step(3, lambda: monkeypatch.setattr(MLP, "forward", broken))
    with pytest.raises(InputError, match=r"test_runs .*out: the loss became nan at step 3"):
        main(cfg)


def test_rests_of_killed_runs_are_removed(cfg, tmp_path):
    (tmp_path / ".out.0123abcd.partial").mkdir()
    (tmp_path / ".other.0123abcd.partial").mkdir()
    main(cfg)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out", ".other.0123abcd.partial"}


def test_progress_is_a_line_every_ten_seconds_where_there_is_no_terminal(cfg, monkeypatch, capsys):
    monkeypatch.setattr("weightgen.training.progress.SECONDS", 0.0)
    main(cfg)
    said, progress = capsys.readouterr()
    lines = progress.splitlines()
    assert said.splitlines()[0].endswith("1 process on cpu")
    assert len(lines) == 7 and "step 3 of 7" in lines[2] and "loss " in lines[2]


def test_signals_are_as_before_after_a_run(cfg):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    main(cfg)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_second_signal_leaves_at_once(cfg, at_step):
    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    at_step(3, twice)
    with pytest.raises(Stopped) as caught:
        main(cfg)
    assert caught.value.number == signal.SIGTERM and str(caught.value) == "stopped"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_status_tells_the_signal(cfg, at_step, monkeypatch, number, status, capsys):
    at_step(2, lambda: signal.raise_signal(number))
    monkeypatch.setattr(sys, "argv", ["recipe", f"output={cfg.output}", f"data={cfg.data}"])
    with pytest.raises(SystemExit) as caught:
        training.run(main, Config, __doc__)
    assert caught.value.code == status
    assert capsys.readouterr().err.splitlines()[-1].endswith("the same command goes on from there")


def test_one_process_tells_of_an_error(cfg, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipe", f"output={cfg.output}", "data=nowhere"])
    for rank, lines in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as caught:
            training.run(lambda cfg: runs.fingerprint("data", cfg.data), Config, __doc__)
        assert caught.value.code == 2 and len(capsys.readouterr().err.splitlines()) == lines


def test_modules_are_loaded_by_the_class_that_is_saved(cfg, tmp_path):
    main(cfg)
    network = training.load_module(cfg.output, "network")
    assert isinstance(network, MLP) and not any(p.requires_grad for p in network.parameters())
    with pytest.raises(InputError, match="has no hypernet"):
        training.load_run(cfg.output)
    facts = read_json(tmp_path / "out/training.json")
    (tmp_path / "out/training.json").write_text(json.dumps({**facts, "network": "os.system"}))
    with pytest.raises(InputError, match="trust"):
        training.load_module(cfg.output, "network")
    with pytest.raises(InputError, match="not the output of a training recipe"):
        training.read_facts(tmp_path)


def test_an_average_is_a_part_like_any_other():
    assert nn.Module.state_dict(
        training.Average(nn.Linear(1, 1))
    )  # AveragedModel counts its updates in a buffer
