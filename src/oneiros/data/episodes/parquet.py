"""Parquet files, which may be a stranger's: what they claim to hold is looked at before it is read.

A file is opened once, so that one that a recorder puts into its place meanwhile changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from oneiros.data.episodes.parquet_pages import check_pages

MOST_ROWS = 2**19  # of a table of metadata

_MOST_VALUES = 2**26  # of a column of a file: two weeks of twenty joints at 30 a second
_MOST_BYTES = 2**29  # of the columns that are read
_BYTES_AT_ONCE = 2**28
_MOST_BYTES_OF_PICTURES, _PICTURES_AT_ONCE = 2**36, 64  # of a file, read piece by piece; of rows


def num_rows(path: Path) -> int:
    """How many rows a file has, by its footer. ValueError where it is damaged, or claims more than can be believed."""
    with _opened(path) as (file, _):
        rows = file.metadata.num_rows
        if not 0 <= rows <= _MOST_VALUES:
            raise ValueError(f"{path}: claims to have {rows:,} rows; at most {_MOST_VALUES:,} can be read")
        return rows


def column_names(path: Path) -> list[str]:
    """The columns of a file, by its footer. ValueError where it is damaged."""
    with _opened(path) as (file, _):
        return list(file.schema_arrow.names)


def read_table(path: Path, wanted: Callable[[str], bool], *, most_rows: int = _MOST_VALUES) -> pa.Table:
    """The columns of those names. ValueError where the file is damaged, or holds more than can be believed."""
    with _opened(path) as (file, source):
        names = [name for name in file.schema_arrow.names if wanted(name)]
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: has two columns of one name")
        rows_at_once = _check_size(path, file, source, names, most_rows)
        batches, size = [], 0
        for batch in file.iter_batches(rows_at_once, columns=names, use_threads=False):
            batches.append(batch)
            size += batch.nbytes
            if size > _MOST_BYTES:
                raise ValueError(f"{path}: holds more than {_MOST_BYTES / 1e6:,.0f} MB; too much to be read")
        schema = pa.schema([file.schema_arrow.field(name) for name in names])
        return pa.Table.from_batches(batches, schema)


def read_rows(path: Path, wanted: Callable[[str], bool], name: str, value: int) -> pa.Table:
    """The columns of those names, of the rows whose column `name` has that value; the others are passed over."""
    with _opened(path) as (file, source):
        names = [each for each in file.schema_arrow.names if wanted(each)]
        if name not in names:
            raise ValueError(f"{path}: has no column {name}")
        _check_size(path, file, source, names, _MOST_VALUES, most_bytes=_MOST_BYTES_OF_PICTURES)
        place = file.schema_arrow.names.index(name)
        groups = [
            number
            for number in range(file.num_row_groups)
            if (known := file.metadata.row_group(number).column(place).statistics) is None
            or not known.has_min_max
            or known.min <= value <= known.max
        ]
        batches, size = [], 0
        for batch in file.iter_batches(_PICTURES_AT_ONCE, row_groups=groups, columns=names, use_threads=False):
            kept = batch.filter(pa.array(batch[name].to_numpy(zero_copy_only=False) == value))
            batches.append(kept)
            size += kept.nbytes
            if size > _MOST_BYTES:
                raise ValueError(f"{path}: {name} {value} holds more than {_MOST_BYTES / 1e6:,.0f} MB")
        return pa.Table.from_batches(batches, pa.schema([file.schema_arrow.field(each) for each in names]))


def row_groups(path: Path) -> list[pa.Table]:
    """All of a file, by row groups: an episode each in files of ours."""
    with _opened(path) as (file, source):
        _check_size(path, file, source, file.schema_arrow.names, _MOST_VALUES)
        return [file.read_row_group(number) for number in range(file.num_row_groups)]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[pq.ParquetFile, pa.NativeFile]]:
    """Inside, whatever is wrong with the file is a ValueError of one line that names it."""
    if not path.is_file():
        raise ValueError(f"{path}: is {'no file' if path.exists() else 'missing'}")
    try:
        with pa.OSFile(str(path)) as source, pq.ParquetFile(source) as file:
            yield file, source
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: cannot be read ({error})") from error


def _check_size(
    path: Path,
    file: pq.ParquetFile,
    source: pa.NativeFile,
    names: list[str],
    most_rows: int,
    most_bytes: int = _MOST_BYTES,
) -> int:
    """ValueError where the footer claims too much, or less than pages hold. Returns how many rows may be read at once:
    a text that stands once in the file may be that of every row."""
    footer = file.metadata
    if not 0 <= footer.num_rows <= most_rows:
        raise ValueError(f"{path}: claims to have {footer.num_rows:,} rows; at most {most_rows:,} can be read")
    texts = size = 0
    values: dict[str, int] = {}
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            place = column.path_in_schema
            if not any(place == name or place.startswith(f"{name}.") for name in names):
                continue
            values[place] = values.get(place, 0) + column.num_values
            size += column.total_uncompressed_size
            texts += column.total_uncompressed_size if column.physical_type == "BYTE_ARRAY" else 0
            if size > most_bytes or values[place] > _MOST_VALUES:
                raise ValueError(
                    f"{path}: claims to hold {values[place]:,} values, {size:,} bytes; too many to be read"
                )
            check_pages(source, column)
    return max(1, min(2**16, _BYTES_AT_ONCE // max(1, texts)))
