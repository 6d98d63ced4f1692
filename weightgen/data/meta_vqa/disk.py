"""Meta-VQA on disk: a `datasets.DatasetDict` of tasks, with a card, a histogram and the figures beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightgen.data.meta_vqa.card import Origin, card, draw_histogram, figures
from weightgen.data.meta_vqa.integrity import check_facts, check_files, file_digests
from weightgen.data.meta_vqa.rules import Row, Rules, Task, build_meta_vqa
from weightgen.errors import InputError, needs
from weightgen.storage.files import kind_of, read_json, written_beside

if TYPE_CHECKING:
    from datasets import DatasetDict, Features

__all__ = [
    "Origin",
    "Row",
    "Rules",
    "Task",
    "build_meta_vqa",
    "describe_meta_vqa",
    "load_meta_vqa",
    "save_meta_vqa",
]

FACTS = "meta_vqa.json"
FORMAT = {"format": "weightgen-meta-vqa", "version": 1}
UNKNOWN = Origin()
ABOUT = "a Meta-VQA data set, as data/meta_vqa/prepare.py writes it"


def save_meta_vqa(
    splits: Mapping[str, Sequence[Task]],
    output_dir: str | Path,
    origin: Origin = UNKNOWN,
    overwrite: bool = False,
) -> None:
    """Write the splits as a folder that `datasets.load_from_disk` reads, with its dataset card.

    Args:
        splits: tasks by split name; any names.
        output_dir: the folder to make. It appears when all of it is written, or not at all.
        origin: what the card says about the source.
        overwrite: whether to replace an earlier Meta-VQA data set there, with its features.

    Raises:
        InputError: if the folder exists, or a text cannot be written as UTF-8.
    """
    output_dir = Path(output_dir)
    if overwrite and output_dir.exists() and not (output_dir / FACTS).is_file():
        raise InputError(
            f"{output_dir} exists and is not {ABOUT}: it will not be overwritten, choose another place"
        )
    try:
        with written_beside(output_dir, overwrite) as partial:
            _write(splits, {**FORMAT, **figures(splits, origin)}, partial)
    except UnicodeEncodeError as error:
        raise InputError(f"{output_dir}: a text of the data set is not valid Unicode: {error}") from error
    except OSError as error:
        raise InputError(f"cannot write {output_dir}: {error}") from error


def _write(splits: Mapping[str, Sequence[Task]], facts: Mapping[str, Any], folder: Path) -> None:
    _write_splits(splits, folder)
    facts = {**facts, "files": file_digests(folder)}
    header = f"---\nlicense: {facts['licence_id']}\ntags: [few-shot, visual-question-answering]\n---\n\n"
    text = header + card(facts) + "\n![Sizes of the tasks](histogram.png)\n"
    (folder / "README.md").write_text(text, encoding="utf-8")
    draw_histogram(splits, folder / "histogram.png")
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    # Last, because a folder without it does not load: no interrupted build leaves one that does.
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}), encoding="utf-8")


def _write_splits(splits: Mapping[str, Sequence[Task]], folder: Path) -> None:
    with needs("train"):
        from datasets import Dataset
        from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = are_progress_bars_disabled()
    disable_progress_bars()  # they flash by once per split
    try:
        for name, tasks in splits.items():
            table = {column: [getattr(task, column) for task in tasks] for column in _features()}
            # One shard even for no tasks at all, or the split would not load.
            Dataset.from_dict(table, features=_features()).save_to_disk(str(folder / name), num_shards=1)
    finally:
        if not quiet:
            enable_progress_bars()


def _features() -> Features:
    with needs("train"):
        from datasets import Features, List, Value

    names, labels = List(Value("string")), List(Value("int64"))
    return Features(
        question=Value("string"),
        answers=names,
        support_images=names,
        support_labels=labels,
        query_images=names,
        query_labels=labels,
        template=Value("string"),
        meaning=Value("string"),
    )


def load_meta_vqa(path: str | Path) -> DatasetDict:
    """Open a data set that `save_meta_vqa` wrote.

    Raises:
        InputError: if there is none, or not a whole one.
    """
    with needs("train"):
        from datasets import DatasetDict

    facts = _facts(path)
    expected = _features().arrow_schema
    check_files(Path(path), facts, dict(zip(expected.names, expected.types, strict=True)))
    try:
        splits = DatasetDict.load_from_disk(str(path))
        for split in splits.values():
            split.data.table.validate(full=True)  # a damaged Arrow file may crash whoever reads its values
    except Exception as error:  # whatever a damaged folder makes of Arrow, JSON and the file system
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged, or was not written to its end: {reason}; prepare it anew"
        ) from error
    for name, counts in facts["splits"].items():
        if (
            name not in splits
            or splits[name].num_rows != counts["tasks"]
            or splits[name].features != _features()
        ):
            raise InputError(f"{path}: split {name!r} is not the one that {FACTS} describes; prepare it anew")
    return splits


def describe_meta_vqa(path: str | Path) -> str:
    """The dataset card of a data set on disk, as text."""
    return card(_facts(path))


def _facts(path: str | Path) -> dict[str, Any]:
    path = Path(path)
    if kind_of(path) != "folder":
        raise InputError(f"no folder {path}; expected {ABOUT}")
    if kind_of(path / FACTS) is None:
        raise InputError(f"{path} has no {FACTS}; expected {ABOUT}")
    facts = read_json(path / FACTS)
    if not isinstance(facts, dict) or any(facts.get(key) != value for key, value in FORMAT.items()):
        raise InputError(f"{path / FACTS} is not of format {FORMAT['format']} version {FORMAT['version']}")
    check_facts(facts, path / FACTS)
    return facts
