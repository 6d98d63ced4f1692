"""Saving a pipeline as a folder, reading it back, and sharing it on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch

from weightgen.pipelines.folder import read_pipeline
from weightgen.storage.files import StrPath, write_json, written_beside
from weightgen.weights import FunctionalNetwork


class SavedPipeline:
    """What a `WeightPipeline` inherits for its folder."""

    parts: Any
    description: Any

    def save_pretrained(
        self, folder: StrPath, overwrite: bool = False, training: Mapping[str, Any] | None = None
    ) -> None:
        """Write a folder of safetensors and JSON with all that the pipeline needs.

        Args:
            folder: the folder to make.
            overwrite: whether an existing one may be replaced.
            training: facts about the training, for `training.json`.

        Raises:
            InputError: the folder exists.
        """
        with written_beside(folder, overwrite) as partial:
            partial.mkdir()
            for name, part in self.parts.items():
                part.save_pretrained(partial / name)
            write_json(partial / "pipeline.json", self.description)
            if training is not None:
                write_json(partial / "training.json", dict(training))

    @classmethod
    def from_pretrained(
        cls, folder: StrPath, *, device: str | torch.device = "cpu", trust_remote_code: bool = False
    ) -> Self:
        """Read what `save_pretrained` wrote.

        Args:
            folder: the folder, or the name of a pipeline that comes with the package.
            device: where everything runs.
            trust_remote_code: whether classes that are not weightgen's may be imported and run.

        Raises:
            InputError: the folder is missing, damaged, another library's, or names foreign classes.
        """
        parts, record = read_pipeline(folder, device, trust_remote_code)
        prior, network = parts.pop("prior"), FunctionalNetwork(parts.pop("network"))
        options = {"template": record.get("template"), "guidable": record.get("guidable", True)}
        made: Any = cls
        pipe: Self = made(parts.pop("encoder"), prior, parts.pop("hypernet"), network, **options, **parts)
        return pipe
