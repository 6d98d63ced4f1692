"""What a user waits for at the command line, each in a process of its own."""

import subprocess
import sys

import pytest

from weightgen.encoders.packaged_towers import packaged_weights


def run(*words):
    return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)


TORCH = run("-c", "import torch")
PIPELINE = "import weightgen.pipelines.weight_pipeline"


def test_help(row):
    row(
        "weightgen --help",
        run("-m", "weightgen", "--help"),
        rounds=7,
        note="aim ≤ 0.3 s; an interpreter alone takes most of it",
    )


def test_import_of_the_pipeline(row):
    found = row("import of WeightPipeline", run("-c", PIPELINE), limit=TORCH, aims=(None, 1 / 1.35), rounds=7,
                note="limit: `import torch`; aim ≤ 1.35 times as long")  # fmt: skip
    assert len(found["limit"]) == 7


def test_sample(row, tmp_path):
    if packaged_weights("sentence-transformers/all-MiniLM-L6-v2") is None:
        pytest.skip("the extra weightgen[photos] is not installed")
    words = ["sample", "What animal is it?", "--model=photos", "--answers=cat,dog", "--num-samples=8"]

    def sample():
        (tmp_path / "x.safetensors").unlink(missing_ok=True)
        run("-m", "weightgen", *words, f"--output={tmp_path / 'x.safetensors'}")()

    row("weightgen sample, 8 samples, the shipped pipeline, cold", sample, limit=TORCH, rounds=7,
        note="aim ≤ 3 s. Limit: `import torch`; the rest is reading and checking 90 MB of the text tower, and other imports")  # fmt: skip
