"""How the demo runs its stages; the stages themselves are tested on their own."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture(scope="module")
def demo(root):
    spec = importlib.util.spec_from_file_location("demo_recipe", root / "recipes" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_recipe"] = module
    spec.loader.exec_module(module)
    return module


# A shell lets what it starts in the background ignore SIGINT, and children inherit that.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def made_by(out, names, code="import sys; open(sys.argv[1], 'w').write('{}')"):
    return {name: (out / f"{name}.json", ["-c", code, str(out / f"{name}.json")]) for name in names}


def test_every_stage_names_a_script_and_a_configuration(demo, root, tmp_path):
    stages = demo.stages(tmp_path)
    for _, command in stages.values():
        assert (root / command[0]).is_file()
        for before, word in zip(command, command[1:], strict=False):
            assert before != "--config" or (root / word).is_file()
    assert list(stages)[0] == "scenes" and list(stages)[-1] == "evaluate"


def test_second_run_reuses_and_keeps_the_seconds(demo, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(demo, "stages", lambda out: made_by(out, ["first", "report"]))
    demo.run_stages(tmp_path)
    seconds = json.loads((tmp_path / "report.json").read_text())["seconds"]
    assert set(seconds) == {"first", "report"} and "reused" not in capfd.readouterr().out
    demo.run_stages(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["seconds"] == seconds
    assert capfd.readouterr().out.count("reused") == 2


def test_failing_stage_is_named_and_gives_the_exit_status(demo, monkeypatch, tmp_path, capfd):
    ran = made_by(tmp_path, ["good"]) | made_by(tmp_path, ["bad"], "raise SystemExit(3)")
    monkeypatch.setattr(demo, "stages", lambda out: ran | made_by(tmp_path, ["report"]))
    with pytest.raises(SystemExit) as stopped:
        demo.run_stages(tmp_path)
    assert stopped.value.code == 3
    assert "the stage 'bad' failed" in capfd.readouterr().err
    assert (tmp_path / "good.json").exists() and not (tmp_path / "report.json").exists()


def test_interrupted_stage_may_tidy_up(root, tmp_path):
    """A stage that needs a second to tidy up gets it."""
    stage = (
        HEED + "import time, pathlib, sys\nfolder = pathlib.Path(sys.argv[1])\n"
        "try:\n    (folder / 'begun').touch(); time.sleep(60)\n"
        "finally:\n    time.sleep(1); (folder / 'tidy').touch()"
    )
    driver = (
        HEED + f"import sys; sys.path.insert(0, {str(root / 'recipes')!r}); import demo\n"
        f"try: demo.run(['-c', {stage!r}, {str(tmp_path)!r}])\nexcept KeyboardInterrupt: sys.exit(130)"
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
