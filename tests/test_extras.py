"""Without an extra, what needs it says in one line how to install it, and sampling goes on."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from weightgen.errors import InputError, install, needs

CLI = "import sys\nfrom weightgen.cli import main\nmain({})"
RECIPE = "import runpy\nrunpy.run_path('recipes/train_hypernet.py', run_name='__main__')"
NO_WEIGHTS = """
import weightgen.encoders.packaged_towers as towers
def distribution(name): raise towers.PackageNotFoundError(name)
towers.distribution = distribution
"""
PHOTO = "weightgen/data/photos/dataset"
CASES = {
    "clip": [
        ("open_clip", "from weightgen import load_clip\nload_clip('ViT-B-32', random_weights=True)"),
    ],
    "photos": [
        ("", NO_WEIGHTS + CLI.format(["sample", "Is it alive?", "--answers=yes,no", "--model=photos",
                                      "--output=never.safetensors"])),
        ("skimage", "from weightgen.reports.pictures import photographs\nphotographs()"),
    ],
    "train": [
        ("accelerate", RECIPE),
        ("omegaconf", RECIPE),
        ("datasets", CLI.format(["evaluate", "--model=photos", f"--dataset={PHOTO}", "--output=never.json"])),
        ("pyarrow", CLI.format(["evaluate", "--model=photos", f"--dataset={PHOTO}", "--output=never.json"])),
        ("msgspec", "from weightgen.data.photos.knowledge import load_knowledge"),
        ("sklearn", "from weightgen.evaluation.baselines import logistic_regression\nlogistic_regression()"),
    ],
    "onnx": [("onnx", "from weightgen.exports import check_format\ncheck_format('onnx')")],
    "peft": [("peft", "from weightgen import lora_target\nlora_target(None, None)")],
    "plots": [("matplotlib", "from weightgen.reports.figures import draw_bars\ndraw_bars({'a': {'b': 1.0}}, 'never.png')")],
}  # fmt: skip


def run_without(packages, code, root):
    """Run code in a process where importing the packages fails as if they were not installed."""
    block = f"import sys\nsys.modules.update(dict.fromkeys({packages.split()}))\n"
    where = {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", block + code], env={**os.environ, **where}, cwd=root, capture_output=True, text=True
    )  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "package", "code"),
    [
        pytest.param(extra, *case, marks=[pytest.mark.slow] * bool(number))
        for extra, cases in CASES.items()
        for number, case in enumerate(cases)
    ],
)
def test_a_missing_package_names_its_extra(extra, package, code, root):
    done = run_without(package, code, root)
    assert done.returncode, done.stdout
    assert install(extra) in done.stderr.strip().splitlines()[-1]
    if "main(" in code or code == RECIPE:
        assert done.stderr.startswith("error: ") and done.returncode == 2


def test_every_extra_that_the_code_names_is_known_and_has_a_case(root):
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        extra
        for path in (root / "weightgen").rglob("*.py")
        for extra in re.findall(r"""(?:needs|install)\("(\w+)"\)""", path.read_text())
    }
    assert named <= extras.keys() and named <= CASES.keys() and len(named) >= 4


@pytest.mark.slow
def test_sampling_needs_no_extra_but_photos(root):
    optional = "accelerate datasets matplotlib msgspec omegaconf open_clip pandas pyarrow scipy sklearn"
    code = (
        "from weightgen import WeightPipeline\n"
        "from PIL import Image\n"
        "out = WeightPipeline.from_pretrained('photos')('Is it alive?', answers=['yes', 'no'])\n"
        "print(out.classifier(0, 0).predict(Image.new('RGB', (40, 30), 'red')))"
    )
    done = run_without(optional, code, root)
    assert done.stdout.strip() in ("yes", "no"), done.stderr


def test_other_failures_pass():
    with pytest.raises(InputError, match=r"'weightgen\[plots\]'"), needs("plots"):
        import no_such_package  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs("plots"):
        import weightgen.no_such_room  # noqa: F401
    with pytest.raises(ImportError), needs("plots"):
        from json import no_such_name  # noqa: F401
