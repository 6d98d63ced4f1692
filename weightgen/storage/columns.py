"""What Arrow and Parquet files unpack to, as their headers say, before anything is unpacked.

A reader allocates what a header says, and fails where the content has another size: so the headers of all blocks bound its memory.

References:
    Arrow: Message.fbs of the columnar format, and "Encapsulated message format". Parquet: parquet.thrift, in the compact protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from weightgen.errors import InputError, needs
from weightgen.storage.limits import check_bytes

DELTA_BYTE_ARRAY = 7  # texts that share their beginnings with the text before
NUMBER = 8  # bytes of the largest number: what a value takes whose block says nothing of it
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_TRUE, _FALSE, _BYTE, _I32, _I64, _DOUBLE, _TEXT, _LIST, _SET, _MAP, _STRUCT = (
    1,
    2,
    3,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
)


def arrow_bytes(path: Path, types: dict[str, Any]) -> int:
    """Bytes that the compressed parts of an Arrow stream unpack to.

    Args:
        path: the file.
        types: the type of each column; some types repeat values without taking bytes for them.

    Raises:
        InputError: it is no Arrow stream, or has other columns.
    """
    with needs("train"):
        import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            schema = pa.ipc.open_stream(file).schema
            if (found := dict(zip(schema.names, schema.types, strict=True))) != types:
                other = sorted(name for name in found | types if found.get(name) != types.get(name))
                raise ValueError(f"column {other[0]!r} is {found.get(other[0], 'missing')}")
            file.seek(0)
            messages = pa.ipc.MessageReader.open_stream(file)
            return sum(_message_bytes(message.metadata, message.body) for message in messages)
    except (pa.ArrowException, OSError, struct.error, IndexError, ValueError) as error:
        raise InputError(
            f"{path} is damaged: {' '.join(str(error).split())}; expected an Arrow stream"
        ) from error


def _message_bytes(metadata: Any, body: Any) -> int:
    header = memoryview(metadata).cast("B")
    message = _offset(header, 0)
    kind = _field(header, message, 1)
    if kind is None or header[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return 0
    batch = _pointer(header, message, 2)
    if header[kind] == _DICTIONARY_BATCH:
        batch = _pointer(header, batch, 1)
    if _field(header, batch, 3) is None:  # not compressed
        return 0
    buffers, content, total = _pointer(header, batch, 2), memoryview(body).cast("B"), 0
    for index in range(struct.unpack_from("<I", header, buffers)[0]):
        start, length = struct.unpack_from("<qq", header, buffers + 4 + 16 * index)
        if length:
            if start < 0:
                raise ValueError("a block before the first")
            total += max(0, struct.unpack_from("<q", content, start)[0])  # -1 where it is not compressed
    return total


def _offset(header: memoryview, place: int) -> int:
    return place + int(struct.unpack_from("<I", header, place)[0])


def _field(header: memoryview, table: int, number: int) -> int | None:
    """Where a field of a flatbuffers table lies, if it has it."""
    entries = table - struct.unpack_from("<i", header, table)[0]
    if entries < 0:
        raise ValueError("a table without fields")
    if 4 + 2 * number >= struct.unpack_from("<H", header, entries)[0]:
        return None
    found = struct.unpack_from("<H", header, entries + 4 + 2 * number)[0]
    return table + found if found else None


def _pointer(header: memoryview, table: int, number: int) -> int:
    """Where the table or vector lies that a field points at."""
    place = _field(header, table, number)
    if place is None:
        raise ValueError(f"field {number} is missing")
    return _offset(header, place)


def check_parquet(
    data: Any, schema: Any, columns: Sequence[str], rows: int, what: str, repeated: bool
) -> None:
    """Refuse a Parquet file whose columns unpack to more than the limit.

    The footer is read here, for pyarrow ends the interpreter when it is asked for the metadata of a damaged column. A column is found
    by its place in the schema, as pyarrow finds it, and not by the name that its metadata repeat.

    Args:
        data: the file as bytes, or something like bytes.
        schema: pyarrow's `ParquetSchema` of it.
        columns: those that will be read, which must not be nested in lists.
        rows: how many are read at once.
        what: the file, for messages.
        repeated: whether a value that comes in many rows is unpacked for each of them; texts that share beginnings always are.

    Raises:
        InputError: they unpack to more, or a page is damaged.
    """
    content, total = memoryview(data).cast("B"), 0
    try:
        paths = [schema.column(number).path for number in range(len(schema))]
        for group in _footer(content).get(4) or []:
            for path, chunk in zip(paths, _part(group, 1), strict=True):
                if path.split(".")[0] not in columns:
                    continue
                for size, values, encoding in _pages(content, _part(chunk, 3)):
                    total += size + NUMBER * values
                    check_bytes(total, what)
                    if repeated or encoding == DELTA_BYTE_ARRAY:
                        check_bytes(rows * size, f"{what} (pages of {size / 1e6:,.0f} MB in column {path!r})")
    except (struct.error, IndexError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what}: a page is damaged: {error}; expected a Parquet file") from error


def _footer(content: memoryview) -> dict[int, Any]:
    """The FileMetaData of parquet.thrift, with its 64-bit numbers, structs and lists."""
    (length,) = struct.unpack("<I", content[-8:-4])
    if length > len(content) - 8:
        raise ValueError("the footer is longer than the file")
    return _struct(content, len(content) - 8 - length, _I64)[0]


def _part(parent: Any, number: int) -> Any:
    """A field of a struct."""
    if not isinstance(parent, dict) or number not in parent:
        raise ValueError("a part of the description of a column is missing")
    return parent[number]


def _pages(content: memoryview, chunk: dict[int, Any]) -> Iterator[tuple[int, int, int]]:
    """Of each page of a part of a column: the bytes that it unpacks to, its values, and their encoding."""
    expected, packed, place = (_part(chunk, number) for number in (5, 7, 9))
    if 0 < (first := chunk.get(11) or 0) < place:  # the dictionary
        place = first
    end = place + packed
    if not 0 <= place <= end <= len(content):
        raise ValueError("it lies outside of the file")
    seen = 0
    while place < end and seen < expected:
        header, place = _struct(content, place, _I32)
        size, packed = header[2], header[3]
        if size < 0 or packed < 0:
            raise ValueError("a negative size")
        numbers = header.get(5) or header.get(8) or header.get(7) or {}
        if not isinstance(numbers, dict):
            raise ValueError("a number where the description of the page is expected")
        values = numbers.get(1, 0)
        yield size, max(0, values), numbers.get(4 if 8 in header else 2, 0)
        seen += values if header[1] != 2 else 0  # the values of a dictionary do not count
        place += packed


def _struct(content: memoryview, place: int, integers: int) -> tuple[dict[int, Any], int]:
    """A struct in Thrift's compact protocol, and where it ends.

    As Thrift's own readers do, it ignores integers of another width than expected: `integers` is _I64 for the footer, _I32 for the headers
    of pages. Lists are kept only in the footer, whose lists pyarrow keeps as well; those in the headers of pages could be large.

    Returns:
        The fields by number, and the place after the struct.

    Raises:
        ValueError: a field comes twice, or is none of this protocol.
    """
    found: dict[int, Any] = {}
    number = 0
    while (head := content[place]) & 15:
        place += 1
        if head >> 4:
            number += head >> 4
        else:
            number, place = _integer(content, place)
        if number in found:
            raise ValueError("a field that comes twice")
        found[number], place = _value(content, place, head & 15, integers)
    return found, place + 1


def _value(content: memoryview, place: int, kind: int, integers: int) -> tuple[Any, int]:
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, place
    if kind == _STRUCT:
        return _struct(content, place, integers)
    if kind in (_BYTE, _DOUBLE):
        return None, place + (1 if kind == _BYTE else 8)
    if kind == _TEXT:
        length, place = _varint(content, place)
        return None, place + length
    if kind in (_LIST, _SET):
        return _list(content, place, integers)
    if kind == _MAP:
        raise ValueError("a map in a description")
    value, place = _integer(content, place)
    return value if kind == integers else None, place


def _list(content: memoryview, place: int, integers: int) -> tuple[list[Any] | None, int]:
    head, found = content[place], []
    length, place = (head >> 4, place + 1) if head >> 4 < 15 else _varint(content, place + 1)
    for _ in range(length):
        # A truth value takes a byte in a list.
        kind = _BYTE if head & 15 in (_TRUE, _FALSE) else head & 15
        value, place = _value(content, place, kind, integers)
        if integers == _I64:
            found.append(value)
    return found if integers == _I64 else None, place


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number without end")


def _integer(content: memoryview, place: int) -> tuple[int, int]:
    value, place = _varint(content, place)
    return (value >> 1) ^ -(value & 1), place
