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
from weightgen.storage.images import SUFFIXES, is_stray, read_image


def prepare_from_folders(
    splits: Mapping[str, StrPath],
    output: StrPath,
    size: int = 84,
    grey: bool = False,
    background: str = "white",
) -> int:
    """Write folders of class folders as few-shot images; images may lie deeper in a class folder.

    Args:
        splits: folder of each split, in which every folder is a class.
        output: folder to make.
        size: side of the square images; others are resized, bilinearly.
        grey: whether colour is dropped.
        background: the colour that is put behind what is transparent.

    Returns:
        The number of files that were skipped: no images, or left by a system or an editor (`is_stray`).

    Raises:
        InputError: a size below 1, a folder without classes, a class without images or in two splits, or an unreadable image.
    """
    if size < 1:
        raise InputError(f"size must be at least 1, got {size}")
    classes = [(split, folder) for split, root in splits.items() for folder in _folders(Path(root))]
    names = [folder.name for _, folder in classes]
    _refuse_repeated(names)
    images, labels = [], []
    skipped = 0
    for k, (_, folder) in enumerate(tqdm(classes, desc="reading classes")):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        pictures = [path for path in files if _is_picture(path.relative_to(folder))]
        skipped += len(files) - len(pictures)
        images += [_read(path, size, grey, background) for path in pictures]
        labels += [k] * len(pictures)
    if not images:
        raise InputError(f"no images ({', '.join(SUFFIXES)}) in {', '.join(map(str, splits.values()))}")
    members = {split: [k for k, (s, _) in enumerate(classes) if s == split] for split in splits}
    source = {"form": "folders", "size": size, "skipped_files": skipped}
    write_few_shot_arrays(output, np.stack(images), labels, names, members, source)
    return skipped


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not is_stray(path)


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
    if not (found := sorted(path for path in root.iterdir() if path.is_dir() and not is_stray(path.name))):
        raise InputError(f"{root} holds no folders: expected one for each class")
    return found


def _refuse_repeated(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"class {name!r} is in two splits: few-shot classes may be in one only")
        seen.add(name)


def _read(path: Path, size: int, grey: bool, background: str) -> NDArray[np.uint8]:
    image = read_image(path, background)
    small = (image.convert("L") if grey else image).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.uint8).reshape(size, size, 1 if grey else 3)
