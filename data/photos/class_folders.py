"""Unpack the photos that an alignment is fitted on: one folder for each class, as recipes/fit_alignment.py reads them.

    python data/photos/class_folders.py --data runs/photos --output runs/photos/classes

From `runs/photos`, which prepare.py made, it takes the photos of the training tasks, and of the 30 classes that no training task
has those of the held-out tasks, on which the alignment is only scored. Prints the setting `held_out=` for those. 5 seconds.
"""

import argparse
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.photos.splits import seen_classes
from weightgen.errors import InputError, one_line_errors
from weightgen.storage.files import written_beside


def names_of(split: Any) -> set[str]:
    """The photos of a split's tasks."""
    return {name for part in ("support_images", "query_images") for row in split[part] for name in row}


@one_line_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare.py made from photos")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    args = parser.parse_args()
    archive = args.data / "images.zip"
    if not archive.is_file():
        raise InputError(f"{archive} is missing: make {args.data} with prepare.py --parquet or --torchvision")
    splits, seen = load_meta_vqa(args.data / "dataset"), set(seen_classes())
    every = {name for split in splits.values() for name in names_of(split)}
    train = names_of(splits["train"])
    chosen = sorted(name for name in every if name in train or name.rpartition("-")[0] not in seen)
    with ZipFile(archive) as photos, written_beside(args.output) as partial:
        for name in chosen:
            place = partial / name.rpartition("-")[0] / f"{name}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(photos.read(f"{name}.png"))
    held = sorted({name.rpartition("-")[0] for name in chosen} - seen)
    print(f"{args.output}: {len(chosen)} photos. For recipes/fit_alignment.py: held_out=[{','.join(held)}]")


if __name__ == "__main__":
    main()
