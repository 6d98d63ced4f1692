"""The Photos data set that comes with the package: questions, and features of the photos in half precision; no photos.

    weightgen/data/photos/dataset/     a Meta-VQA data set with features/photos/
    weightgen/models/photos/           the pipeline that was trained on it, whose encoder/ is that of the features

`data/photos/ship.py` writes both.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from weightgen.data.features.store import FeatureStore
from weightgen.data.meta_vqa.disk import describe_meta_vqa
from weightgen.errors import InputError
from weightgen.storage.files import StrPath, written_beside

__all__ = ["DATASET", "FEATURES", "MODEL", "unpack"]

DATASET = Path(__file__).parent / "dataset"
FEATURES = Path("features", "photos")
MODEL = Path(__file__).parents[2] / "models" / "photos"


def unpack(folder: StrPath, dataset: Path = DATASET, model: Path = MODEL) -> None:
    """Make a folder with `dataset/`, as training reads it: with the features, and how to get their encoder again.

    Args:
        folder: to make.
        dataset: the shipped data set.
        model: the shipped pipeline.

    Raises:
        InputError: the folder exists; the package lacks a file; or a tower cannot be had, or is another one.
    """
    for path in (dataset, model / "encoder"):
        if not path.is_dir():
            raise InputError(
                f"the package lacks {path}: install weightgen again, or run data/photos/prepare.py"
            )
    describe_meta_vqa(dataset)
    with written_beside(folder) as partial:
        shutil.copytree(dataset, partial / "dataset")
        shutil.copytree(model / "encoder", partial / "dataset" / FEATURES / "encoder")
        # Before anything is trained: a tower that is missing, or another one, would come out hours later.
        FeatureStore(partial / "dataset" / FEATURES).load_encoder()
