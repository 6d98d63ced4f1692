"""Omniglot: 1623 handwritten characters, 20 drawings each, read from the forms in which it is passed around."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weightgen.data.few_shot_arrays import write_few_shot_arrays
from weightgen.errors import InputError
from weightgen.files import StrPath

SPLITS = ("train", "validation", "test")  # Vinyals et al., 2016: 1028, 172 and 423 characters


def read_npz(path: StrPath) -> dict[str, NDArray[Any]]:
    """Read the arrays of an .npz file, none of which may be a pickle.

    Raises:
        InputError: the file is missing, damaged, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {path} as an .npz file of plain arrays: {error}") from error


def prepare_from_npz(path: StrPath, output: StrPath) -> None:
    """Write the array file of all characters (28 × 28, with the split of Vinyals et al.) as few-shot images.

    Raises:
        InputError: an array is missing, or the number of classes does not match the labels.
    """
    arrays = read_npz(path)
    wanted = ("images", "class_id", "class_official_id", "class_split_vinyals")
    if absent := [name for name in wanted if name not in arrays]:
        raise InputError(f"{path} has no array {absent[0]!r}, only {', '.join(sorted(arrays))}")
    labels, split = arrays["class_id"], arrays["class_split_vinyals"]
    if len(split) != labels.max() + 1:
        raise InputError(f"{path} has {len(split)} classes, but labels up to {labels.max()}")
    write_few_shot_arrays(
        output,
        arrays["images"],
        labels,
        [str(name) for name in arrays["class_official_id"]],
        {name: np.flatnonzero(split == i).tolist() for i, name in enumerate(SPLITS)},
        {"dataset": "Omniglot", "file": Path(path).name},
    )
