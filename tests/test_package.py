import subprocess
import sys
import tomllib

import pytest

import weightgen


def test_public_names_are_there():
    for name in weightgen.__all__:
        assert getattr(weightgen, name).__name__ == name
    assert set(weightgen.__all__) <= set(dir(weightgen))


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'WeightPipelin'"):
        _ = weightgen.WeightPipelin
    with pytest.raises(ImportError):
        from weightgen import WeightPipelin  # noqa: F401


def test_importing_is_light():
    heavy = {"torch", "numpy", "diffusers", "open_clip", "omegaconf"}
    code = f"import sys, weightgen; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_holds_every_file_that_is_no_code(root):
    """setuptools takes what these patterns name, and nothing else."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    declared = {
        path
        for pattern in settings["package-data"]["weightgen"]
        for path in (root / "weightgen").glob(pattern)
    }
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "weightgen"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not in a git repository")
    files = {root / name for name in listed.stdout.splitlines()}
    missing = {path for path in files - declared if path.suffix != ".py" and path.is_file()}
    assert not missing
    # PyPI takes 100 MB; this is a little above what is there, so that nothing large comes in unseen.
    assert sum(path.stat().st_size for path in declared if path.is_file()) < 26e6
