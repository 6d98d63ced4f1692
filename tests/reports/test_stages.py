import json
import os
import signal
import subprocess
import sys
import time

import pytest

from weightgen import InputError
from weightgen.reports.stages import Stage, claim_folders, missing_stages, run_stages

# A shell lets what it starts in the background ignore SIGINT, and children inherit that.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


WRITE = "import sys; open(sys.argv[1], 'w').write('{}')"


def made_by(folder, names, code=WRITE, needs=(), cheap=False):
    return {
        name: Stage(
            folder / f"{name}.json",
            ["-c", code, str(folder / f"{name}.json")],
            needs=tuple(needs),
            cheap=cheap,
        )
        for name in names
    }


def test_second_run_reuses_and_keeps_the_seconds(tmp_path, capfd):
    stages = made_by(tmp_path, ["first", "report"])
    seconds = run_stages(stages, tmp_path, tmp_path / "clock")
    assert set(seconds) == {"first", "report"} and "reused" not in capfd.readouterr().out
    assert run_stages(stages, tmp_path, tmp_path / "clock") == seconds
    assert capfd.readouterr().out.count("reused") == 2
    assert json.loads((tmp_path / "clock").read_text()) == seconds


@pytest.mark.parametrize(
    ("code", "reason"), [("raise SystemExit(3)", "status 3"), ("pass", "did not make .*bad.json")]
)
def test_failing_stage_is_named_and_nothing_follows(tmp_path, code, reason):
    stages = made_by(tmp_path, ["good"]) | made_by(tmp_path, ["bad"], code) | made_by(tmp_path, ["report"])
    with pytest.raises(InputError, match=rf"the stage 'bad' .*{reason}"):
        run_stages(stages, tmp_path, tmp_path / "clock")
    assert (tmp_path / "good.json").exists() and not (tmp_path / "report.json").exists()


def test_what_another_process_has_made_meanwhile_stays(tmp_path):
    code = "import sys; [open(sys.argv[1].replace('first', name), 'w').write(name) for name in ('first', 'long')]"
    stages = made_by(tmp_path, ["first"], code) | made_by(tmp_path, ["long"])
    with pytest.raises(InputError, match="long.json was made meanwhile by another process"):
        run_stages(stages, tmp_path, tmp_path / "clock")
    assert (tmp_path / "long.json").read_text() == "long"


def test_what_is_made_of_something_missing_is_not_reused(tmp_path):
    stages = made_by(tmp_path, ["part", "other"])
    stages |= made_by(tmp_path, ["whole"], needs=["part"])
    run_stages(stages, tmp_path, tmp_path / "clock")
    stages["other"].makes.unlink()
    run_stages(stages, tmp_path, tmp_path / "clock")  # the whole is not made of the other
    stages |= made_by(tmp_path, ["end"], needs=["whole"])
    run_stages(stages, tmp_path, tmp_path / "clock")
    stages["part"].makes.unlink()
    for _ in range(2):  # starting again does not help, for nothing was made
        with pytest.raises(
            InputError, match=r"whole.json is made of .*part.json, .*remove .*whole.json, .*end.json"
        ):
            run_stages(stages, tmp_path, tmp_path / "clock")
        assert not stages["part"].makes.exists()


def test_a_cheap_stage_is_made_anew(tmp_path):
    stages = made_by(tmp_path, ["part"]) | made_by(tmp_path, ["report"], needs=["part"], cheap=True)
    run_stages(stages, tmp_path, tmp_path / "clock")
    assert missing_stages(stages) == []
    stages["part"].makes.unlink()
    assert missing_stages(stages) == ["part", "report"]
    stages["report"].makes.write_text("old")
    run_stages(stages, tmp_path, tmp_path / "clock")
    assert stages["report"].makes.read_text() == "{}"


def test_a_stage_needs_only_what_stands_before_it(tmp_path):
    stages = made_by(tmp_path, ["one"], needs=["two"]) | made_by(tmp_path, ["two"])
    with pytest.raises(InputError, match="the stage 'one' needs 'two', which is no stage before it"):
        run_stages(stages, tmp_path, tmp_path / "clock")
    assert not list(tmp_path.iterdir())


def test_folders_of_another_origin_are_not_claimed(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    claim_folders(folders[:1], {"dataset": "x"})
    claim_folders(folders[:1], {"dataset": "x"})
    with pytest.raises(InputError, match="holds results of .*'x'.*give another folder"):
        claim_folders(folders[::-1], {"dataset": "y"})
    assert not folders[1].exists()


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_driver_alone_reaches_the_stage(tmp_path, sent, status):
    """As `kill` sends it, where no terminal tells the whole group."""
    stage = (
        HEED + "import pathlib, sys, time\nfolder = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "try:\n    (folder / 'begun').touch(); time.sleep(60)\n"
        "finally:\n    (folder / 'tidy').touch()"
    )
    driver = (
        HEED + "import pathlib, sys; import weightgen.reports.stages as stages\n"
        f"try: stages.run(['-c', {stage!r}, {str(tmp_path)!r}], pathlib.Path('.'))\n"
        "except KeyboardInterrupt: sys.exit(130)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.time() + 60
    while not (tmp_path / "begun").exists() and time.time() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, sent)
    assert process.wait(timeout=30) == status
    assert (tmp_path / "tidy").exists()


def test_interrupted_stage_may_tidy_up(tmp_path):
    """A stage that needs a second to tidy up gets it."""
    stage = (
        HEED + "import time, pathlib, sys\nfolder = pathlib.Path(sys.argv[1])\n"
        "try:\n    (folder / 'begun').touch(); time.sleep(60)\n"
        "finally:\n    time.sleep(1); (folder / 'tidy').touch()"
    )
    driver = (
        HEED + "import sys, pathlib; from weightgen.reports.stages import run\n"
        f"try: run(['-c', {stage!r}, {str(tmp_path)!r}], pathlib.Path('.'))\nexcept KeyboardInterrupt: sys.exit(130)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver], stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.time() + 60
    while not (tmp_path / "begun").exists() and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert (tmp_path / "tidy").exists()
