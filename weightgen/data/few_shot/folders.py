"""Any images of classes as few-shot arrays: a folder of class folders, or .npz files with images and labels.

Notation: M images; H × W pixels; K classes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from weightgen.data.few_shot.arrays import read_npz, write_few_shot_arrays
from weightgen.errors import InputError
from weightgen.storage.files import StrPath
from weightgen.storage.images import read_image

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def prepare_from_folders(
    splits: Mapping[str, StrPath], output: StrPath, size: int = 84, grey: bool = False
) -> None:
    """Write folders of class folders as few-shot images.

    Args:
        splits: folder of each split, in which every folder is a class.
        output: folder to make.
        size: side of the square images; others are resized, bilinearly.
        grey: whether colour is dropped.

    Raises:
        InputError: a folder without classes, a class without images or in two splits, or an unreadable image.
    """
    classes = [(split, folder) for split, root in splits.items() for folder in _folders(Path(root))]
    names = [folder.name for _, folder in classes]
    _refuse_repeated(names)
    images, labels = [], []
    for k, (_, folder) in enumerate(tqdm(classes, desc="reading classes")):
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS):
            images.append(_read(path, size, grey))
            labels.append(k)
    if not images:
        raise InputError(
            f"no images ({', '.join(sorted(ENDINGS))}) in {', '.join(map(str, splits.values()))}"
        )
    members = {split: [k for k, (s, _) in enumerate(classes) if s == split] for split in splits}
    write_few_shot_arrays(output, np.stack(images), labels, names, members, {"form": "folders", "size": size})


def prepare_from_npz(splits: Mapping[str, StrPath], output: StrPath) -> None:
    """Write .npz files, one for each split, as few-shot images; the sizes of the images must agree.

    Args:
        splits: file of each split, with `images` uint8 (M, H, W[, channels]) and `labels` (M,); classes of different files are different.
        output: folder to make.

    Raises:
        InputError: an array is missing, of another type or length, or images differ in size.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    names: list[str] = []
    members: dict[str, list[int]] = {}
    for split, path in splits.items():
        arrays = read_npz(path)
        if absent := [name for name in ("images", "labels") if name not in arrays]:
            raise InputError(f"{path} has no array {absent[0]!r}, only {', '.join(sorted(arrays))}")
        if arrays["images"].dtype != np.uint8 or len(arrays["images"]) != len(arrays["labels"]):
            raise InputError(
                f"{path}: expected uint8 images and as many labels, got {arrays['images'].dtype} "
                f"{arrays['images'].shape} and {len(arrays['labels'])} labels"
            )
        if images and images[0].shape[1:] != arrays["images"].shape[1:]:
            raise InputError(
                f"{path} has images of {arrays['images'].shape[1:]}, and those before {images[0].shape[1:]}"
            )
        found, numbers = np.unique(arrays["labels"], return_inverse=True)
        images.append(arrays["images"])
        labels.append(numbers.reshape(-1) + len(names))
        members[split] = list(range(len(names), len(names) + len(found)))
        names += [f"{split}/{label}" for label in found]
    source = {"form": "npz", "files": [Path(path).name for path in splits.values()]}
    write_few_shot_arrays(output, np.concatenate(images), np.concatenate(labels), names, members, source)


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(f"no folder {root}: expected a folder of class folders")
    if not (found := sorted(path for path in root.iterdir() if path.is_dir())):
        raise InputError(f"{root} holds no folders: expected one for each class")
    return found


def _refuse_repeated(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"class {name!r} is in two splits: few-shot classes may be in one only")
        seen.add(name)


def _read(path: Path, size: int, grey: bool) -> NDArray[np.uint8]:
    image = read_image(path)
    small = (image.convert("L") if grey else image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.uint8).reshape(size, size, 1 if grey else 3)
