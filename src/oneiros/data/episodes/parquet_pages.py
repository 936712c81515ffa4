"""How much the pages of a parquet file unpack to, by their own headers: the footer may say less.

A page is unpacked as a whole, to as much as its header says (up to 2 GB), before a value of it is looked at. Headers
are structs in Thrift's compact protocol.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

_RATIOS = {"UNCOMPRESSED": 1, "SNAPPY": 24}  # of what a codec unpacks, to what it is given; of others without bound
_HARMLESS = 2**24  # bytes of a column in a row group
_SLACK = 2**20  # bytes that the footer may forget
_LONGEST_HEADER = 2**16
_DEEPEST = 8  # structs and lists in one another

_UNPACKED, _PACKED = 2, 3  # fields of a page's header: sizes in bytes


def check_pages(file: pa.NativeFile, column: pq.ColumnChunkMetaData) -> None:
    """ValueError where the pages of a column in a row group unpack to more than the footer says."""
    if _RATIOS.get(column.compression, 2**31) * column.total_compressed_size <= _HARMLESS:
        return
    size, claimed = 0, column.total_uncompressed_size
    for unpacked in _page_sizes(file, column):
        size += unpacked
        if size > claimed + _SLACK:
            raise ValueError(
                f"{column.path_in_schema} unpacks to {size:,} bytes or more, where {claimed:,} are claimed"
            )


def _page_sizes(file: pa.NativeFile, column: pq.ColumnChunkMetaData) -> Iterator[int]:
    place = column.data_page_offset
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < place:
        place = column.dictionary_page_offset
    end = place + column.total_compressed_size
    while place < end:
        try:
            header, length = _struct(file.read_at(_LONGEST_HEADER, place), 0)
            unpacked, packed = header[_UNPACKED], header[_PACKED]
        except (LookupError, TypeError):
            raise ValueError(f"{column.path_in_schema} has a page without a header") from None
        if min(unpacked, packed) < 0:
            raise ValueError(f"{column.path_in_schema} has a page of fewer than 0 bytes")
        yield unpacked
        place += length + packed


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, int], int]:
    """The whole numbers among a struct's fields, by the fields' numbers; and where the struct ends."""
    fields, number = {}, 0
    while head := data[at]:
        kind, step = head & 15, head >> 4
        at += 1
        if step:
            number += step
        else:
            number, at = _integer(data, at)
        fields[number], at = _value(data, at, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[int, int]:
    """The value there, 0 where it is no whole number, and where it ends."""
    if depth > _DEEPEST:
        raise LookupError
    if kind in (1, 2):  # a truth value, told by its kind
        return 0, at
    if kind in (4, 5, 6):
        return _integer(data, at)
    if kind in (3, 7):
        return 0, at + (1 if kind == 3 else 8)
    if kind == 8:  # text
        length, at = _varint(data, at)
        return 0, at + length
    if kind in (9, 10):  # a list or a set
        count, kind, at = data[at] >> 4, data[at] & 15, at + 1
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            at = at + 1 if kind in (1, 2) else _value(data, at, kind, depth + 1)[1]
            if at > len(data):
                raise LookupError
        return 0, at
    if kind == 12:
        return 0, _struct(data, at, depth + 1)[1]
    raise LookupError


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise LookupError
