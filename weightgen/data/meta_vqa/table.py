"""Any VQA-style data as one table: a CSV or Parquet file with columns question, image, answer.

The columns `answer_type` and `meaning` are used if they are there. Rows are read in file order.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from weightgen.data.meta_vqa.rules import Row
from weightgen.data.meta_vqa.source_files import SourceFile, read_source
from weightgen.errors import InputError, needs
from weightgen.storage.columns import check_parquet
from weightgen.storage.limits import check_bytes

__all__ = ["VqaTable"]

COLUMNS = ("question", "image", "answer")
OPTIONAL = ("answer_type", "meaning")
ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
DELIMITERS = (",", ";", "\t", "|")
BATCH = 1024  # rows of a Parquet file that are Python texts at once
Placed = tuple[str, list[str], tuple[Any, ...]]  # where a row is, its columns, their values


class VqaTable:
    """The rows of a `.csv` or `.tsv` file (also `.gz`), with a header, or of a `.parquet` file.

    Text files are UTF-8, or UTF-16 with a byte-order mark; values are separated by commas, semicolons, tabs or bars, as the header
    shows. Blank lines are left out, spaces around values too. Whole numbers become text.

    Args:
        path: the file.
        progress: whether to show a bar while it is read.
        fold_case: whether answers of a question that differ by capitals alone are one, spelled as it comes first. Most text encoders
            read small letters only and could not tell them apart.

    Raises:
        InputError: another ending; while it is read, a damaged file, or a value that is missing, with its line and column.
    """

    def __init__(self, path: str | Path, progress: bool = False, fold_case: bool = True) -> None:
        self.path, self.progress, self.fold_case = Path(path), progress, fold_case
        self.sources: list[dict[str, str | int]] = []
        """Name, size and checksum of the file, known once the rows have been read."""
        if not self.path.name.lower().endswith(ENDINGS):
            raise InputError(f"{path}: expected a file that ends in {', '.join(ENDINGS)}")

    def __iter__(self) -> Iterator[Row]:
        data, description = read_source(SourceFile(self.path), self.progress)
        self.sources = [description]
        parse = _parquet if self.path.suffix.lower() == ".parquet" else _csv
        spelled: dict[tuple[str, str], str] = {}
        for place, columns, values in parse(data, self.path):
            texts = [
                _text(value, f"{self.path}: {place}, column {column!r}")
                for column, value in zip(columns, values[: len(COLUMNS)], strict=False)
            ]
            if self.fold_case:
                texts[2] = spelled.setdefault((texts[0], " ".join(texts[2].lower().split())), texts[2])
            yield Row(*texts, **dict(zip(columns[len(COLUMNS) :], values[len(COLUMNS) :], strict=True)))


def _text(value: Any, where: str) -> str:
    if isinstance(value, float) and value.is_integer():  # whole numbers of a column in which one is missing
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: expected a text, got {'nothing' if value in ('', None) else repr(value)}")
    return value.strip()


def _csv(data: bytearray, path: Path) -> Iterator[Placed]:
    text = _decoded(data, path)
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        columns = _columns(header, path)
        places = [header.index(name) for name in columns]
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                raise InputError(
                    f"{path}: line {reader.line_num}: expected {len(header)} values, got {len(values)}"
                )
            yield f"line {reader.line_num}", columns, tuple(values[place] for place in places)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num + 1}: {error}; expected CSV") from error


def _decoded(data: bytearray, path: Path) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        # A spreadsheet puts a byte-order mark before the first column's name.
        return data.decode("utf-16" if wide else "utf-8-sig").removeprefix("\ufeff")
    except UnicodeError as error:
        start = error.start if isinstance(error, UnicodeDecodeError) else 0
        before = (
            bytes(data[:start])
            .decode("utf-8-sig", errors="replace")
            .replace("\r\n", "\n")
            .replace("\r", "\n")
        )
        line = before.count("\n") + 1
        row = _cells(before.rpartition("\n")[2] + "x", _delimiter(before))
        header = _cells(before.partition("\n")[0], _delimiter(before))
        column = (
            header[len(row) - 1].strip() if len(row) <= len(header) and line > 1 else f"number {len(row)}"
        )
        raise InputError(
            f"{path}: line {line}, column {column!r}: {error}; expected UTF-8: save the file again with that encoding"
        ) from error


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line, also of one that is no CSV."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _delimiter(text: str) -> str:
    """The separator that gives the most of the expected columns in the header."""
    header = text.partition("\n")[0]

    def known(delimiter: str) -> int:
        names = {name.strip(' "\r').lower() for name in header.split(delimiter)}
        return len(names & set(COLUMNS))

    return max(DELIMITERS, key=known)


def _parquet(data: bytearray, path: Path) -> Iterator[Placed]:
    with needs("train"):
        import pyarrow as pa
        import pyarrow.parquet as pq

    try:
        # Texts stay the numbers of different texts: a small file can repeat a long one.
        schema = pq.ParquetFile(pa.BufferReader(data)).schema_arrow
        columns = _columns(schema.names, path)
        for name in columns:
            if pa.types.is_nested(schema.field(name).type):
                raise InputError(f"{path}: column {name!r} holds {schema.field(name).type}, expected texts")
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=columns)
        check_parquet(data, file.schema, columns, BATCH, str(path), repeated=False)
        row, total = 0, 0
        for batch in file.iter_batches(BATCH, columns=columns):
            check_bytes(_text_bytes(batch), f"rows {row:,} to {row + len(batch):,} of {path}")
            total += _text_bytes(batch) // 4  # as a file of plain text
            check_bytes(total, f"{path} up to row {row + len(batch):,}")
            for values in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                yield f"row {row}", columns, values
                row += 1
    except InputError:
        raise
    except (pa.ArrowException, OSError, UnicodeError, MemoryError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: {reason}; expected a Parquet file") from error


def _text_bytes(batch: Any) -> int:
    """What the texts of a batch take as Python texts, one for each row."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = 0
    for column in batch.columns:
        if pa.types.is_dictionary(column.type) and pa.types.is_large_string(
            column.type.value_type
        ) | pa.types.is_string(column.type.value_type):
            lengths = pc.binary_length(column.dictionary)
            total += 4 * (pc.sum(pc.take(lengths.cast(pa.int64()), column.indices)).as_py() or 0)
    return total


def _columns(header: Sequence[str], path: Path) -> list[str]:
    missing = [name for name in COLUMNS if name not in header]
    if missing or any(header.count(name) > 1 for name in (*COLUMNS, *OPTIONAL)):
        raise InputError(
            f"{path}: expected columns {', '.join(COLUMNS)} (and optionally {', '.join(OPTIONAL)}), each once, got "
            f"{', '.join(map(repr, header)) or 'none'}"
        )
    return [*COLUMNS, *(name for name in OPTIONAL if name in header)]
