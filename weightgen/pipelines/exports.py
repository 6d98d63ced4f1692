"""From sampled weights to a folder that other programs load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from weightgen.errors import InputError
from weightgen.exports import Export, check_format
from weightgen.exports.export import write_export
from weightgen.storage.files import StrPath

if TYPE_CHECKING:
    from weightgen.pipelines.generated_weights import GeneratedWeights


def export_weights(
    out: GeneratedWeights,
    folder: StrPath,
    format: str,
    prompt: int = 0,
    sample: int | None = None,
    image_tower: bool = False,
    overwrite: bool = False,
) -> None:
    """See `GeneratedWeights.save_pretrained`."""
    check_format(format, None if overwrite else folder)
    count = out.weights.shape[1]
    if sample is not None and not 0 <= sample < count:
        raise InputError(f"there are samples 0 to {count - 1}, got sample={sample}")
    encoder: Any = out.pipeline.encoder
    image_module = _image_module(encoder) if image_tower else None
    samples = range(count) if sample is None else [sample]
    context = {}
    if out.answers is not None or format in ("onnx", "numpy"):
        classifiers = [out.classifier(prompt, k) for k in samples]
        networks = [one.network.eval() for one in classifiers]
        context["answers"] = classifiers[0].answer_embeds
    else:
        weights = out.decoded_weights[prompt]
        networks = [out.pipeline.network.with_weights(weights[k]).eval() for k in samples]
    about: dict[str, Any] = {
        "question": out.prompts[prompt],
        "answers": out.answers[prompt] if out.answers else None,
        "template": out.templates[prompt],
        "familiarity": None if out.familiarity is None else round(out.familiarity[prompt].item(), 4),
        "sampling": out.info,
        "encoder": {
            "name": encoder.name,
            "digest": encoder.digest,
            "preprocess": _pixel_settings(encoder),
        },
    }
    shape = None
    if image_module is not None:
        from PIL import Image

        shape = tuple(encoder.preprocess(Image.new("RGB", (8, 8))).shape)
    export = Export(
        networks,
        (encoder.image_dim,),
        context,
        about,
        image_module,
        shape,
    )
    write_export(export, folder, format, overwrite)


def _pixel_settings(encoder: Any) -> dict[str, Any] | None:
    """How pictures become pixels, where the encoder says it."""
    preprocess = getattr(getattr(encoder, "image_tower", encoder), "preprocess", None)
    return getattr(preprocess, "settings", None)


def _image_module(encoder: Any) -> nn.Module:
    if not hasattr(encoder, "image_module"):
        raise InputError(
            f"the image tower of {type(encoder).__name__} cannot be exported: leave out image_tower, and give the file features"
        )
    return encoder.image_module().eval()
