"""Reading the folder of a saved pipeline: which class each part has, and what a damaged folder says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from weightgen import __version__
from weightgen.encoders.load import load_encoder
from weightgen.errors import InputError
from weightgen.priors import DiffusionPrior
from weightgen.storage.files import StrPath, kind_of, read_json
from weightgen.storage.hub import class_named, class_path, load_part
from weightgen.storage.shipped import shipped_folder

FORMAT = {"format": "weightgen-pipeline", "version": 2}
PARTS = ("encoder", "prior", "hypernet", "network")
FURTHER = ("support", "familiarity")  # parts that a pipeline may lack


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
        "schedule": _schedule(pipe.prior),
        "template": pipe.template,
        "guidable": pipe.guidable,
    }


def _schedule(prior: Any) -> dict[str, Any] | None:
    """What a diffusion prior was trained with; None for a prior without diffusion."""
    if not isinstance(prior, DiffusionPrior):
        return None
    return {name: prior.trained_with(name) for name in ("prediction_type", "num_train_timesteps")}


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
    check_links(found)
    _check_record(record, found / "pipeline.json")
    try:
        names = [*PARTS, *(name for name in FURTHER if name in record["parts"])]
        kinds = {name: class_named(record["parts"][name], trust_remote_code) for name in names}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{found / 'pipeline.json'} lacks {error}") from error
    for name, kind in kinds.items():
        expected = nn.Module if name not in ("encoder", "prior") else object
        if not issubclass(kind, expected) or not hasattr(kind, "from_pretrained"):
            raise InputError(f"{found / 'pipeline.json'} names {record['parts'][name]!r}, which is no {name}")
    if not hasattr(kinds["prior"], "sample"):
        raise InputError(f"{found / 'pipeline.json'} names {record['parts']['prior']!r}, which is no prior")
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


def _check_record(record: dict[str, Any], path: Path) -> None:
    """Refuse entries of the wrong type."""
    template, guidable = record.get("template"), record.get("guidable", True)
    if not (template is None or isinstance(template, str)) or not isinstance(guidable, bool):
        raise InputError(
            f"{path}: expected a text or null as template, and true or false as guidable, got {template!r:.60} and {guidable!r:.60}"
        )
    if not isinstance(record.get("parts"), dict):
        raise InputError(f"{path} lacks 'parts', the classes of the parts")


def check_sizes_of(pipe: Any, record: dict[str, Any], path: Path) -> None:
    """Refuse a pipeline whose parts have other sizes, or another encoder, than were saved.

    Raises:
        InputError: naming what differs.
    """
    now = describe(pipe)
    for part in ("sizes", "encoder", "schedule"):
        saved = record.get(part)
        if saved != now[part] and not (
            part == "schedule" and saved is None
        ):  # earlier pipelines do not say it
            raise InputError(
                f"{path} says {part} {saved!r:.120}, and its parts have {now[part]!r:.120}: they do not belong together"
            )


def check_links(folder: Path) -> None:
    """Refuse symbolic links that leave a folder, but those of the Hub's cache, whose files lie in a folder `blobs` beside it.

    Raises:
        InputError: naming the first one.
    """
    root = folder.resolve()
    roots = [root, root.parents[1] / "blobs"] if root.parent.name == "snapshots" else [root]
    for path in sorted(root.rglob("*")):
        if path.is_symlink() and not any(path.resolve().is_relative_to(each) for each in roots):
            raise InputError(f"{path} is a link out of the saved model: copy the file that it points to")


def read_description(name: StrPath) -> tuple[Path, dict[str, Any]]:
    """The folder of a saved pipeline, and what its `pipeline.json` holds.

    Raises:
        InputError: there is no such folder, or it holds no pipeline.
    """
    folder = shipped_folder(name)
    if kind_of(folder) != "folder":
        raise InputError(
            f"no folder {folder}: expected a saved WeightPipeline, such as `make demo` leaves in runs/demo/pipeline, or the name photos"
        )
    if kind_of(folder / "pipeline.json") is None:
        raise InputError(f"{folder} has no pipeline.json: it is not a saved WeightPipeline")
    record = read_json(folder / "pipeline.json")
    if not isinstance(record, dict) or any(record.get(key) != value for key, value in FORMAT.items()):
        raise InputError(
            f"{folder / 'pipeline.json'} is not of format {FORMAT['format']} version {FORMAT['version']}"
        )
    return folder, record
