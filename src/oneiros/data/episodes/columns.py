"""Numbers that a dataset's data files hold, by episode, in the order of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from oneiros.data.episodes.metadata import EpisodeFiles
from oneiros.data.episodes.parquet import read_table

_EPISODE, _ROW = "episode_index", "frame_index"


class Columns:
    """Reads columns of data files. Of each column the file read last is kept, as many episodes may share it."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Path, np.ndarray, pa.Array]] = {}

    def of(self, files: EpisodeFiles, name: str, size: int | None = None) -> np.ndarray:
        """A column of one episode, (T, n), in the order of frame_index; missing values are NaN, further axes flattened.

        size: how many numbers a row must have. ValueError, naming file and episode, for anything else.
        """
        places, column = self._whole(files.data, name)
        rows = places[np.searchsorted(places[:, 0], files.index) : np.searchsorted(places[:, 0], files.index, "right")]
        told = files.length + files.without_frame
        if len(rows) != told:
            raise ValueError(f"{files.data}: episode {files.index} has {len(rows)} rows; the metadata says {told}")
        values = _to_numpy(column.take(pa.array(rows[: files.length, 1])), files)
        if size is not None and values.shape[1] != size:
            raise ValueError(f"{files.data}: {name} has {values.shape[1]} numbers a row; meta/info.json says {size}")
        return values

    def _whole(self, path: Path, name: str) -> tuple[np.ndarray, pa.Array]:
        """Where the rows of each episode are, (N, 2) of its number and a place in the file; and the column."""
        if self._read.get(name, (None,))[0] != path:
            table = read_table(path, lambda each: each in (_EPISODE, _ROW, name))
            if missing := {_EPISODE, name} - set(table.column_names):
                raise ValueError(f"{path}: has no column {', '.join(missing)}")
            for each in table.schema:
                if not _is_numbers(each.type):
                    raise ValueError(f"{path}: column {each.name} is {each.type}; it must hold numbers")
            self._read[name] = (path, row_places(table), table[name].combine_chunks())
        return self._read[name][1:]


def row_places(table: pa.Table) -> np.ndarray:
    """(episode, place in the table) of every row, by episode and in it by frame_index where there is one: (N, 2)."""
    numbers = table[_EPISODE].to_numpy()
    within = table[_ROW].to_numpy() if _ROW in table.column_names else np.zeros(len(numbers))
    order = np.lexsort((within, numbers))
    return np.stack([numbers[order], order], axis=1).astype(np.int64)


def _is_numbers(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _to_numpy(column: pa.Array, files: EpisodeFiles) -> np.ndarray:
    rows = len(column)
    while pa.types.is_nested(column.type):
        fixed = pa.types.is_fixed_size_list(column.type)
        if column.null_count or not len(column) or (not fixed and len(column.value_lengths().unique()) > 1):
            raise ValueError(f"{files.data}: episode {files.index} has rows of different lengths")
        column = column.flatten()
    return column.to_numpy(zero_copy_only=False).reshape(rows, -1)
