"""Reading the folder of a saved pipeline: which class each part has, and what a damaged folder says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weightgen import __version__
from weightgen.encoders.load import load_encoder
from weightgen.errors import InputError
from weightgen.priors import DiffusionPrior
from weightgen.storage.files import StrPath, read_json
from weightgen.storage.hub import class_named, class_path, load_part

FORMAT = {"format": "weightgen-pipeline", "version": 2}
PARTS = ("encoder", "prior", "hypernet", "network")
FURTHER = ("support", "familiarity")  # parts that a pipeline may lack
SHIPPED = Path(__file__).parents[1] / "models"  # pipelines that come with the package


def describe(pipe: Any) -> dict[str, Any]:
    """What `pipeline.json` of a pipeline holds."""
    sizes = {"question_dim": pipe.encoder.question_dim, "image_dim": pipe.encoder.image_dim}
    sizes |= {"latent_dim": pipe.prior.denoiser.latent_dim, "weights": pipe.space.size}
    return {
        **FORMAT,
        "weightgen": __version__,
        "parts": {name: class_path(part) for name, part in pipe.parts.items()},
        "sizes": sizes,
        "encoder": {"name": pipe.encoder.name, "digest": pipe.encoder.digest},
        "template": pipe.template,
        "guidable": pipe.guidable,
    }


def read_pipeline(
    folder: StrPath, device: str | torch.device = "cpu", trust_remote_code: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load the parts of a saved pipeline.

    Args:
        folder: the folder, or the name of a pipeline that comes with the package.
        device: where everything runs.
        trust_remote_code: whether classes that are not weightgen's may be imported and run.

    Returns:
        The parts by name, and what `pipeline.json` holds.

    Raises:
        InputError: the folder is missing, damaged, another library's, or names foreign classes.
    """
    found, record = read_description(folder)
    try:
        names = [*PARTS, *(name for name in FURTHER if name in record["parts"])]
        kinds = {name: class_named(record["parts"][name], trust_remote_code) for name in names}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{found / 'pipeline.json'} lacks {error}") from error
    encoder = load_encoder(found / "encoder", device=device, trust_remote_code=trust_remote_code)
    trust = {"trust_remote_code": trust_remote_code} if issubclass(kinds["prior"], DiffusionPrior) else {}
    parts = {
        "encoder": encoder,
        "prior": kinds["prior"].from_pretrained(found / "prior", **trust).to(device),
    }
    for name in names:
        if name not in parts:
            parts[name] = load_part(kinds[name], found / name).to(device)
    return parts, record


def pipeline_folder(name: StrPath) -> Path:
    """The folder of that name, or the one of a pipeline that comes with the package."""
    folder = Path(name)
    shipped = not folder.exists() and len(folder.parts) == 1 and (SHIPPED / folder).is_dir()
    return SHIPPED / folder if shipped else folder


def read_description(name: StrPath) -> tuple[Path, dict[str, Any]]:
    """The folder of a saved pipeline, and what its `pipeline.json` holds.

    Raises:
        InputError: there is no such folder, or it holds no pipeline.
    """
    folder = pipeline_folder(name)
    if not folder.is_dir():
        raise InputError(
            f"no folder {folder}: expected a saved WeightPipeline, such as `make demo` leaves in runs/demo/pipeline, or the name photos"
        )
    if not (folder / "pipeline.json").is_file():
        raise InputError(f"{folder} has no pipeline.json: it is not a saved WeightPipeline")
    record = read_json(folder / "pipeline.json")
    if not isinstance(record, dict) or any(record.get(key) != value for key, value in FORMAT.items()):
        raise InputError(
            f"{folder / 'pipeline.json'} is not of format {FORMAT['format']} version {FORMAT['version']}"
        )
    return folder, record
