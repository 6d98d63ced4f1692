"""The page about exports: what it shows is run, with onnxruntime on a photograph, in a process without torch."""

import os
import re
import subprocess
import sys

import pytest
import torch
from PIL import Image

from weightgen import WeightPipeline


@pytest.mark.slow
def test_the_page_runs(root, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    data = pytest.importorskip("skimage.data")
    write, use, network = re.findall(
        r"```python\n(.*?)```", (root / "docs/exports.md").read_text(), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    exec(write, {})
    for name, picture in (("wide", data.chelsea()), ("square", data.astronaut())):
        Image.fromarray(picture).save(f"{name}.png")
        block = "import sys\nsys.modules.update(dict.fromkeys(['torch', 'weightgen']))\n"
        done = subprocess.run(
            [sys.executable, "-c", block + use, f"{name}.png"],
            env={**os.environ, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
        )
        pipe = WeightPipeline.from_pretrained("photos")
        drawn = torch.Generator().manual_seed(0)
        out = pipe("Does it have wheels?", answers=["yes", "no"], guidance_scale=1.0, generator=drawn)
        shares = out.classifier().probabilities(f"{name}.png")[0]
        answer, share = done.stdout.split()
        assert answer == ["yes", "no"][shares.argmax()], done.stderr
        assert float(share) == pytest.approx(shares.max().item(), abs=1e-5)
    exec("import torch\n" + network, {})
    assert (tmp_path / "drawings/use.py").is_file()
