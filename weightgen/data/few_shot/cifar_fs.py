"""CIFAR-FS: the classes of CIFAR-100 split for few-shot learning, 64 for training, 16 for validation and 20 for testing.

References:
    Bertinetto et al., "Meta-learning with differentiable closed-form solvers", 2019, appendix A.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np

from weightgen.data.few_shot.arrays import write_few_shot_arrays
from weightgen.data.photos.cifar import Photo
from weightgen.errors import InputError
from weightgen.storage.files import StrPath
from weightgen.storage.images import read_image

TEST = (
    "whale poppy rose sweet_pepper telephone bed table wardrobe leopard plain chimpanzee fox snail worm baby man woman bicycle "
    "pickup_truck rocket"
).split()
VALIDATION = (
    "beaver otter flatfish shark lamp television beetle butterfly sea camel cattle crab crocodile maple_tree motorcycle tractor"
).split()
CLASSES = 100


def prepare_cifar_fs(photos: Sequence[Photo], output: StrPath) -> None:
    """Write CIFAR-100's photos of both its parts as few-shot images, 32 × 32 in colour.

    Args:
        photos: as `weightgen.data.photos.cifar` reads them.
        output: folder to make.

    Raises:
        InputError: a class of CIFAR-100 has no photo.
    """
    counts = Counter(photo.class_name for photo in photos)
    if len(counts) != CLASSES:
        raise InputError(f"expected photos of the {CLASSES} classes of CIFAR-100, got {len(counts)}")
    names = sorted(counts)
    number = {name: k for k, name in enumerate(names)}
    held = {"validation": VALIDATION, "test": TEST}
    chosen = {split: sorted(number[name] for name in members) for split, members in held.items()}
    taken = {k for members in chosen.values() for k in members}
    splits = {"train": [k for k in range(CLASSES) if k not in taken], **chosen}
    images = np.stack([np.asarray(read_image(io.BytesIO(photo.png)), dtype=np.uint8) for photo in photos])
    labels = np.array([number[photo.class_name] for photo in photos], dtype=np.int64)
    source = {"dataset": "CIFAR-100", "split": "cifar_fs"}
    write_few_shot_arrays(output, images, labels, names, splits, source)
