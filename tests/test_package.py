import subprocess
import sys

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
