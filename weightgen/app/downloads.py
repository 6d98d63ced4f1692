"""Formats in which the page hands out sampled weights: one line each."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from weightgen.pipelines.generated_weights import GeneratedWeights

FORMATS: dict[str, Callable[[GeneratedWeights, Path], None]] = {
    "safetensors": lambda out, path: out.save(path),
}
"""Ending of a file → what writes it."""


def write_download(out: GeneratedWeights, ending: str) -> str:
    """Write the samples of the first prompt, and return the path of the file, which is named after the question.

    It lies in the folder of temporary files of the page, which is removed when the page ends.
    """
    words = re.sub(r"[^a-z0-9]+", "-", out.prompts[0].lower()).strip("-")[:60]
    path = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")), f"{words or 'weights'}.{ending}")
    FORMATS[ending](out, path)
    return str(path)
