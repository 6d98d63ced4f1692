"""Any VQA-style data as one table: a CSV or Parquet file with columns question, image, answer.

The columns `answer_type` and `meaning` are used if they are there. Rows are read in file order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weightgen.data.meta_vqa.rules import Row
from weightgen.data.meta_vqa.source_files import SourceFile, read_source
from weightgen.errors import InputError

__all__ = ["VqaTable"]

COLUMNS = ("question", "image", "answer")
OPTIONAL = ("answer_type", "meaning")


class VqaTable:
    """The rows of a `.csv` (UTF-8, with a header), `.csv.gz` or `.parquet` file.

    Args:
        path: the file.
        progress: whether to show a bar while it is read.
    """

    def __init__(self, path: str | Path, progress: bool = False) -> None:
        self.path, self.progress = Path(path), progress
        self.sources: list[dict[str, str | int]] = []
        """Name, size and checksum of the file, known once the rows have been read."""
        if not self.path.name.endswith((".csv", ".csv.gz", ".parquet")):
            raise InputError(f"{path}: expected a .csv, .csv.gz or .parquet file")

    def __iter__(self) -> Iterator[Row]:
        data, description = read_source(SourceFile(self.path), self.progress)
        self.sources = [description]
        parse = _parquet if self.path.suffix == ".parquet" else _csv
        for place, values in enumerate(parse(data, self.path)):
            required = tuple(values[name] for name in COLUMNS)
            if not all(isinstance(value, str) and value for value in required):
                raise InputError(
                    f"{self.path}: row {place} after the header: expected a text in each of "
                    f"{', '.join(COLUMNS)}, got {required!r:.200}"
                )
            yield Row(**values)


def _csv(data: bytearray, path: Path) -> Iterator[dict[str, Any]]:
    # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, [])
        places = {name: header.index(name) for name in _columns(header, path)}
        for values in reader:
            if len(values) != len(header):
                raise InputError(
                    f"{path}: line {reader.line_num}: expected {len(header)} values, got {len(values)}"
                )
            yield {name: values[place] for name, place in places.items()}
    except (csv.Error, UnicodeError) as error:
        raise InputError(f"{path}: line {reader.line_num + 1}: {error}; expected UTF-8 CSV") from error


def _parquet(data: bytearray, path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = _columns(file.schema_arrow.names, path)
        for batch in file.iter_batches(columns=columns):
            yield from batch.select(columns).to_pylist()
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: {reason}; expected a Parquet file") from error


def _columns(header: list[str], path: Path) -> list[str]:
    missing = [name for name in COLUMNS if name not in header]
    if missing or len(set(header)) < len(header):
        raise InputError(
            f"{path}: expected columns {', '.join(COLUMNS)} (and optionally {', '.join(OPTIONAL)}), each once, got "
            f"{', '.join(map(repr, header)) or 'none'}"
        )
    return [*COLUMNS, *(name for name in OPTIONAL if name in header)]
