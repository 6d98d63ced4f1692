"""Every test runs with one thread, off the network, and from the same seed."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch
from hypothesis import settings

from tests.clip_fixtures import config, folder, network, tokenizer  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]

# On a busy machine two threads are up to a hundred times slower than one, and times mean nothing.
torch.set_num_threads(1)
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data that lie beside the repository; tests that need them are skipped where there are none."""
    beside = Path(os.environ.get("WEIGHTGEN_SHARED", ROOT.parent / "shared"))
    if not (beside / "data").is_dir():
        pytest.skip(f"no data beside the repository, in {beside.name}/data")
    return beside
