"""The wheel and the source archive, away from the repository: the README's first lines run from the wheel alone.

The new environment sees the packages of this one through a `.pth` file, and weightgen only from the wheel.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv

import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def run(*words, cwd):
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """The wheel and the source archive."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", target, root, cwd=target)
    (wheel,), (archive,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """The interpreter of an environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=True)
    found = folder / "bin" / "python"
    run(found, "-m", "pip", "install", "--no-deps", "--no-index", built[0], cwd=folder)
    site = run(found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    with open(f"{site}/packages.pth", "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    return found


def test_both_are_accepted_by_the_registry(built, tmp_path):
    assert run(sys.executable, "-m", "twine", "check", "--strict", *built, cwd=tmp_path).count("PASSED") == 2


def test_the_source_archive_holds_the_model_and_no_results(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"weightgen/models/photos/pipeline.json", "LICENSE", "README.md", "pyproject.toml"} <= names
    assert not any(name.startswith(("results/", "runs/")) for name in names)


def test_the_first_lines_of_the_readme_run_from_the_wheel(python, root, tmp_path):
    block = re.search(r"^```python\n(.*?)^```", (root / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.jpg")
    more = "import weightgen\nprint(weightgen.__file__)\nprint(classifier.predict(['photo.jpg']))"
    where, answers = run(python, "-c", block[1] + more, cwd=tmp_path).splitlines()
    assert where.startswith(str(python.parents[1])), "imported from elsewhere than the wheel"
    assert answers in ("['yes']", "['no']")


def test_the_command_runs_from_the_wheel(python, tmp_path):
    command = python.with_name("weightgen")
    output = run(command, "sample", "Is it alive?", "--model=photos", "--answers=yes,no", "--output=x.safetensors",
                 cwd=tmp_path)  # fmt: skip
    assert output.startswith("x.safetensors: 1 x")
