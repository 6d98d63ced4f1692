"""Omniglot: 1623 handwritten characters, 20 drawings each, read from the forms in which it is passed around.

Two splits, by name. `alphabets` is that of Vinyals et al. (2016): five alphabets of the background set are for validation, the last 423
characters of the evaluation set (alphabets in the order of their names) for testing, all others for training. `random_characters` is that
of the HyperTransformer's paper: all characters in a shuffled order, of which 1150 are for training, 50 for validation, 423 for testing.
"""

import io
import random
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from weightgen.data.few_shot.arrays import read_npz, write_few_shot_arrays
from weightgen.errors import InputError
from weightgen.storage.files import StrPath
from weightgen.storage.images import is_stray, member_path, read_image
from weightgen.storage.limits import read_member

SPLITS = ("train", "validation", "test")
SETS = ("images_background", "images_evaluation")
VALIDATION = {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
TEST_CHARACTERS = 423
DRAWINGS = 20
RANDOM_CHARACTERS = (1150, 50)  # for training and validation; the others are for testing
Character = tuple[str, int]  # alphabet, and number in it
Split = Literal["alphabets", "random_characters"]


def prepare_from_npz(path: StrPath, output: StrPath, split: Split = "alphabets", seed: int = 2022) -> None:
    """Write the array file of all characters (28 × 28, with the split by alphabets) as few-shot images.

    Args:
        path: the .npz file.
        output: folder to make.
        split: which characters are for training, validation and testing.
        seed: of the split at random.

    Raises:
        InputError: an array is missing, or the number of classes does not match the labels.
    """
    arrays = read_npz(path)
    facts = ("class_alphabet_id", "class_character_no", "class_split_vinyals")
    wanted = ("images", "class_id", "alphabet_names", *facts)
    if absent := [name for name in wanted if name not in arrays]:
        raise InputError(f"{path} has no array {absent[0]!r}, only {', '.join(sorted(arrays))}")
    labels, number = arrays["class_id"], arrays["class_split_vinyals"]
    if len(number) != labels.max() + 1:
        raise InputError(f"{path} has {len(number)} classes, but labels up to {labels.max()}")
    known, groups = len(arrays["alphabet_names"]), arrays["class_alphabet_id"]
    if len(groups) != len(number) or len(arrays["class_character_no"]) != len(number):
        raise InputError(
            f"{path} has {len(number)} classes, but the alphabets of {len(groups)} and the numbers of "
            f"{len(arrays['class_character_no'])}"
        )
    if groups.min() < 0 or groups.max() >= known or number.min() < 0 or number.max() >= len(SPLITS):
        raise InputError(
            f"{path}: expected alphabets from 0 to {known - 1} and splits from 0 to {len(SPLITS) - 1}, got "
            f"{groups.min()} to {groups.max()} and {number.min()} to {number.max()}"
        )
    alphabets = arrays["alphabet_names"][groups]
    names = [_name(str(a), int(n)) for a, n in zip(alphabets, arrays["class_character_no"], strict=True)]
    members = {name: np.flatnonzero(number == i).tolist() for i, name in enumerate(SPLITS)}
    if split == "random_characters":
        members = random_split(names, seed)
    source = {"dataset": "Omniglot", "form": "npz", **_facts(split, seed)}
    write_few_shot_arrays(output, arrays["images"], labels, names, members, source)


def prepare_from_images(
    folder: StrPath, output: StrPath, size: int = 28, split: Split = "alphabets", seed: int = 2022
) -> None:
    """Write the drawings in `images_background` and `images_evaluation` as few-shot images, ink bright.

    Args:
        folder: holds the two as zip files or as folders, itself or in a folder there: `omniglot-py` of torchvision, `python` of a
            clone of the authors' repository, or a folder twice inside itself, as from Kaggle. Or one zip file of all this.
        output: folder to make.
        size: side of the square images; the originals (105 × 105) are averaged over boxes.
        split: which characters are for training, validation and testing.
        seed: of the split at random.

    Raises:
        InputError: a size below 1, a set is missing or damaged, or a character has not 20 drawings.
    """
    if size < 1:
        raise InputError(f"size must be at least 1, got {size}")
    drawings: dict[Character, list[tuple[str, NDArray[np.uint8]]]] = {}
    background: set[Character] = set()
    for name in SETS:
        for alphabet, number, file, content in tqdm(_files(Path(folder), name), desc=name):
            drawings.setdefault((alphabet, number), []).append((file, _pixels(content, size, file)))
        background = background or set(drawings)
    for key, found in drawings.items():
        if len(found) != DRAWINGS:
            raise InputError(f"{_name(*key)} has {len(found)} drawings instead of {DRAWINGS}: download again")
    order = sorted(drawings)
    names = [_name(*key) for key in order]
    members = vinyals_split(order, background) if split == "alphabets" else random_split(names, seed)
    if empty := [name for name in SPLITS if not members[name]]:
        raise InputError(
            f"{folder} holds {len(order)} characters, none of them for {empty[0]}: Omniglot has 1623; download both sets again"
        )
    images = np.stack([image for key in order for _, image in sorted(drawings[key], key=lambda d: d[0])])
    write_few_shot_arrays(
        output,
        images,
        np.repeat(np.arange(len(order)), DRAWINGS),
        names,
        members,
        {"dataset": "Omniglot", "form": "images", "size": size, **_facts(split, seed)},
    )


def vinyals_split(order: Sequence[Character], background: Collection[Character]) -> dict[str, list[int]]:
    """Class numbers by split.

    Args:
        order: alphabet and number of each class.
        background: those of the background set; the others are of the evaluation set.
    """
    tested = set(sorted(set(order) - set(background))[-TEST_CHARACTERS:])
    found: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, character in enumerate(order):
        split = "validation" if character[0] in VALIDATION else "test" if character in tested else "train"
        found[split].append(i)
    return found


def random_split(names: Sequence[str], seed: int = 2022) -> dict[str, list[int]]:
    """Class numbers by split: the names, sorted, in a shuffled order; the order of `names` does not matter.

    References:
        Zhmoginov et al., "HyperTransformer", 2022, section 5: 1150, 50 and 423 characters. Its order is not published.
    """
    order = sorted(range(len(names)), key=lambda k: names[k])
    random.Random(seed).shuffle(order)
    first, second = RANDOM_CHARACTERS
    return {
        "train": order[:first],
        "validation": order[first : first + second],
        "test": order[first + second :],
    }


def _facts(split: Split, seed: int) -> dict[str, str | int]:
    return {"split": split} if split == "alphabets" else {"split": split, "split_seed": seed}


def _name(alphabet: str, number: int) -> str:
    return f"{alphabet}/character{number:02d}"


def _files(folder: Path, name: str) -> Iterator[tuple[str, int, str, bytes]]:
    """Alphabet, number of the character, file name and content of every drawing in a set.

    A folder of that name goes before a zip file of that name, and that before a zip file in which it lies.
    """
    if (place := _place(folder, name)) is not None:
        paths = sorted(path for path in place.rglob("*") if path.suffix.lower() == ".png")
        return _parsed((str(path.relative_to(place.parent)), path.read_bytes()) for path in paths)
    zips = [folder] if folder.is_file() else sorted(p for p in _near(folder) if p.suffix.lower() == ".zip")
    zips.sort(key=lambda path: path.stem.lower() != name)
    for path in zips:
        if path.stem.lower() == name or _holds(path, name):
            return _zipped(path, path.name, name)
    raise InputError(
        f"neither {name}.zip nor a folder {name} in {folder} or in folders there such as omniglot-py or python"
    )


def _near(folder: Path, depth: int = 3) -> Iterator[Path]:
    """What lies in a folder, down to `depth`, apart from what lies in a set or an alphabet."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        yield path
        if path.is_dir() and path.name not in SETS and depth > 1:
            yield from _near(path, depth - 1)


def _place(folder: Path, name: str) -> Path | None:
    return next((path for path in _near(folder) if path.is_dir() and path.name == name), None)


def _holds(path: Path, name: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name in (part, part.lower().removesuffix(".zip")) for each in archive.namelist()
                       for part in member_path(each).parts)  # fmt: skip
    except (zipfile.BadZipFile, OSError):
        return False  # a zip file that holds something else may be broken


def _zipped(file: Path | BinaryIO, label: str, name: str) -> Iterator[tuple[str, int, str, bytes]]:
    """The drawings of a set in a zip file, or in the zip file of the set inside it."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {str(member_path(each)): each for each in archive.namelist()}
            inner = [
                path
                for path in members
                if path.lower().split("/")[-1] == f"{name}.zip" and not is_stray(path)
            ]
            if inner:
                yield from _zipped(io.BytesIO(read_member(archive, members[inner[0]])), inner[0], name)
                return
            other = [each for each in SETS if each != name]
            wanted = [
                p for p in sorted(members) if p.lower().endswith(".png") and other[0] not in p.split("/")
            ]
            yield from _parsed((path, read_member(archive, members[path])) for path in wanted)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{label} is damaged: {error}; download and prepare again") from error


def _parsed(files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, int, str, bytes]]:
    for path, content in files:
        parts = path.replace("\\", "/").split("/")
        match = re.fullmatch(r"character(\d+)", parts[-2]) if len(parts) > 2 else None
        if match and not is_stray(path):
            yield parts[-3], int(match[1]), parts[-1], content


def _pixels(content: bytes, size: int, name: str) -> NDArray[np.uint8]:
    try:
        image = read_image(io.BytesIO(content))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    small = image.convert("L").resize((size, size), Image.Resampling.BOX)
    return np.uint8(255) - np.asarray(small, dtype=np.uint8)  # the originals are black on white
