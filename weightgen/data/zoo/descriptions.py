"""What a sentence says about each network of a zoo: from a JSONL or CSV file, or from the card of each adapter."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from weightgen.errors import InputError
from weightgen.storage.files import parse_json
from weightgen.storage.limits import check_file

SPLITS = ("train", "validation", "test")
CARD = "description:"  # begins the line of a card that describes its adapter


class Description(NamedTuple):
    """A sentence about a network, or about all networks in a folder.

    Attributes:
        name: of the network or the folder.
        text: the sentence.
        split: train, validation or test.
    """

    name: str
    text: str
    split: str = "train"


def read_descriptions(path: Path) -> list[Description]:
    """Read a file of descriptions: JSONL with an object, or CSV with a head and a row, for each of them: name, text, optionally split.

    Raises:
        InputError: another kind of file, a damaged one, or one that describes nothing.
    """
    check_file(path, "descriptions as JSONL or CSV")
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"{path}: expected descriptions in a file named .jsonl or .csv")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows: list[Any] = list(csv.DictReader(text.splitlines()))
        else:
            rows = [parse_json(line) for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeError, ValueError, csv.Error, RecursionError) as error:
        raise InputError(
            f"cannot read the descriptions in {path}: {' '.join(str(error).split()):.150}"
        ) from error
    found = [_checked(row, path, number) for number, row in enumerate(rows, 1)]
    if not found:
        raise InputError(f"{path} describes nothing: expected a name and a text in each row")
    return found


def _checked(row: Any, path: Path, number: int) -> Description:
    if not isinstance(row, Mapping):
        raise InputError(f"{path}, row {number}: expected name and text, got {str(row)[:60]!r}")
    for key in ("name", "text"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{path}, row {number} has no {key}: expected name, text and optionally split")
    split = row.get("split") or "train"
    if split not in SPLITS:
        raise InputError(f"{path}, row {number}: expected a split of {', '.join(SPLITS)}, got {split!r:.40}")
    return Description(row["name"].strip().removesuffix(".safetensors"), row["text"].strip(), split)


def card_description(folder: Path, name: str) -> Description:
    """The description in the card of an adapter: the line that begins with `description:`.

    Raises:
        InputError: there is no card, or it has no such line.
    """
    card = folder / "README.md"
    if card.is_file():
        check_file(card, "the card of an adapter")
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip().lower().startswith(CARD) and (text := line.strip()[len(CARD) :].strip(" \"'")):
                return Description(name, text)
    raise InputError(
        f"{folder} has no description: write a line '{CARD} ...' in its README.md, or give a file of descriptions"
    )


def described(names: Sequence[str], descriptions: Iterable[Description]) -> dict[str, Description]:
    """The description of each network. One of a folder counts for all networks in it.

    Raises:
        InputError: a network without a description, or with two; or a description without a network.
    """
    given: dict[str, Description] = {}
    for one in descriptions:
        if one.name in given:
            raise InputError(f"{one.name!r} is described twice")
        given[one.name] = one
    found, used = {}, set()
    for name in names:
        parts = name.split("/")
        above = ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]
        key = next((key for key in above if key in given), None)
        if key is None:
            raise InputError(f"{name!r} has weights, but no description: add a row with its name")
        used.add(key)
        found[name] = given[key]
    if unused := [name for name in given if name not in used]:
        raise InputError(f"{unused[0]!r} is described, but there are no weights of that name")
    return found
