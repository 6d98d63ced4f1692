"""A CLIP in a folder, in the format of the transformers library."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from weightgen.encoders.clip_checks import MAX_CONTEXT, MAX_SIDE, check_folder
from weightgen.encoders.clip_folder import brief
from weightgen.encoders.clip_towers import Towers
from weightgen.errors import InputError, check_sizes
from weightgen.storage.files import read_json, read_object
from weightgen.storage.hub import check_finite

__all__ = ["load"]

WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
)  # the second names the files of sharded weights


class _AsOpenCLIP(nn.Module):
    """A transformers CLIP with open_clip's two methods.

    No attention mask is given: padding follows the end token, and attention is causal.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.model.text_projection(self.model.text_model(input_ids=tokens).pooler_output)


def load(folder: Path) -> Towers:
    """Read the towers of a transformers CLIP folder, without network.

    Raises:
        InputError: another kind of model, or a file that is missing or damaged.
    """
    check_folder(folder)
    config = read_json(folder / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise InputError(f"{folder / 'config.json'} is of model_type {kind!r}: expected 'clip'")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise InputError(f"{folder}: expected a tokenizer, as tokenizer.json or vocab.json and merges.txt")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise InputError(f"{folder}: expected {' or '.join(WEIGHTS)}; weights in other formats are not read")
    from transformers import AutoTokenizer, CLIPModel

    try:
        model, report = CLIPModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        raise InputError(f"{folder} is not a CLIP that transformers can read: {brief(error)}") from error
    if report["missing_keys"] or report["mismatched_keys"]:
        wrong = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
        raise InputError(f"{folder} lacks {len(wrong)} weights, for example {wrong[0]}")
    length = model.config.text_config.max_position_embeddings
    check_sizes(1, MAX_CONTEXT, max_position_embeddings=length)
    check_sizes(1, MAX_SIDE, image_size=model.config.vision_config.image_size)
    check_finite(model.state_dict(), str(folder))

    def tokenize(texts: list[str]) -> Tensor:
        return tokenizer(
            texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids

    pixels = _pixels(folder, model.config.vision_config.image_size)
    vocabulary = tokenizer.backend_tokenizer.to_str()
    return Towers(_AsOpenCLIP(model.float()), tokenize, pixels, model.config.projection_dim, vocabulary)


def _pixels(folder: Path, size: int) -> dict[str, Any]:
    """Translate the image processor's settings into open_clip's."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return {"size": size}
    settings = read_object(path)
    # PIL's numbers: 2 is bilinear, 3 bicubic.
    interpolation = {2: "bilinear", 3: "bicubic"}.get(settings.get("resample", 3))
    if interpolation is None:
        raise InputError(f"{path}: resample {settings['resample']} is not supported: expected 2 or 3")
    if settings.get("do_resize", True) is False:
        raise InputError(f"{path}: do_resize=false is not supported: images of every size are given")
    pixels = {"size": size, "interpolation": interpolation, **_normalization(settings)}
    if settings.get("do_center_crop", True) is False:
        pixels["resize_mode"] = "squash"
    return pixels


def _normalization(settings: dict[str, Any]) -> dict[str, Any]:
    """Mean and std for pixels from 0 to 1, of settings that may leave out a step or scale in another way."""
    found = {
        ours: tuple(settings[theirs])
        for ours, theirs in (("mean", "image_mean"), ("std", "image_std"))
        if theirs in settings
    }
    if settings.get("do_normalize", True) is False:
        found = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1
    if abs(255 * factor - 1) < 1e-6:
        return found
    if len(found) < 2:
        raise InputError("a processor that rescales in its own way must name image_mean and image_std")
    return {name: tuple(value / (255 * factor) for value in values) for name, values in found.items()}
