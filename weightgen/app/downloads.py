"""Formats in which the page hands out sampled weights: one line each."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from weightgen.pipelines.generated_weights import GeneratedWeights


def _write_onnx(out: GeneratedWeights, path: Path) -> None:
    out.save_pretrained(folder := path.with_suffix(".folder"), "onnx")
    (folder / "model.onnx").rename(path)


def _write_peft(out: GeneratedWeights, path: Path) -> None:
    out.save_pretrained(folder := path.with_suffix(".folder"), "peft")
    shutil.make_archive(str(path.with_suffix("")), "zip", folder)


FORMATS: dict[str, Callable[[GeneratedWeights, Path], None]] = {
    "safetensors": lambda out, path: out.save(path),
    "onnx": _write_onnx,
    "zip": _write_peft,
}
"""Ending of a file → what writes it."""
LABELS = {"safetensors": "weights (safetensors)", "onnx": "classifier (ONNX)", "zip": "adapters (PEFT)"}
"""Ending of a file → what the page calls it."""
AT_ONCE = ("safetensors",)
"""Endings of files that take no time; the others are made when they are asked for."""


def offered(out: GeneratedWeights, ending: str) -> bool:
    """Whether these weights can have this format: PEFT holds low-rank adapters alone."""
    module = out.pipeline.network.module
    return ending != "zip" or any(getattr(module, name, None) for name in ("peft_config", "adapter_config"))


def write_download(out: GeneratedWeights, ending: str) -> str:
    """Write the samples of the first prompt, and return the path of the file, which is named after the question.

    It lies in the folder of temporary files of the page, which is removed when the page ends.
    """
    words = re.sub(r"[^a-z0-9]+", "-", out.prompts[0].lower()).strip("-")[:60]
    path = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")), f"{words or 'weights'}.{ending}")
    FORMATS[ending](out, path)
    return str(path)
