"""The file of sampled weights: what it must hold, checked before anything is read."""

from __future__ import annotations

import json
import math
from typing import Any

from weightgen.data.meta_vqa.templates import check_template
from weightgen.errors import InputError
from weightgen.pipelines.inputs import check_answers
from weightgen.storage.files import StrPath, read_metadata, read_shapes


def read_record(path: StrPath) -> dict[str, Any]:
    """What `GeneratedWeights.save` stored beside the weights.

    Raises:
        InputError: it is no such file, or an entry is missing or of another type.
    """
    text = read_metadata(path).get("weightgen")
    if text is None:
        raise InputError(f"{path} holds no weights that `weightgen sample` wrote")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it does not say what it holds") from error
    known = {"prompt", "template", "encoder", "answers", "familiarity"}
    if not isinstance(record, dict) or not known <= record.keys():
        raise InputError(f"{path} is damaged: it does not say the {', '.join(sorted(known))} of its weights")
    for name in ("prompt", "template", "encoder"):
        if not isinstance(record[name], str):
            raise InputError(f"{path} is damaged: its {name} is {record[name]!r:.60}, expected a text")
    _check_values(path, record)
    return record


def _check_values(path: StrPath, record: dict[str, Any]) -> None:
    known = record["familiarity"]
    if known is not None and not (type(known) in (int, float) and 0 <= known <= 1):
        raise InputError(
            f"{path} is damaged: its familiarity is {known!r:.60}, expected a number from 0 to 1"
        )
    if record["answers"] is not None:
        try:
            if not isinstance(record["answers"], list):
                raise InputError("the answers are no list")
            check_answers([record["answers"]], 1)
            check_template(record["template"], "the template")
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}") from error


def check_shapes(path: StrPath, size: int) -> None:
    """Refuse a file without weights (K, P) and latents (K, Z) of floating-point numbers; reads the header only.

    Args:
        path: the file.
        size: P.

    Raises:
        InputError: see above.
    """
    shapes = read_shapes(path)
    for name in ("weights", "latents"):
        shape, floating = shapes.get(name, ((), False))
        if len(shape) != 2 or not floating or not math.prod(shape):
            raise InputError(
                f"{path} holds no weights that `weightgen sample` wrote: {name} must be a matrix of numbers"
            )
    if shapes["weights"][0][1] != size:
        raise InputError(f"{path} was sampled with another model: its weights do not fit this one")
    if shapes["weights"][0][0] != shapes["latents"][0][0]:
        raise InputError(f"{path} is damaged: it has other numbers of weights and of latents")
