"""Clouds in npy files: rows of named fields, or plain numbers of which the first three are x, y, z. In npz files: an
array for each of x, y, z (or one of all three) and for each attribute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from oneiros.data.clouds.cloud import Cloud
from oneiros.data.clouds.relabel import LabelPart, rewriting
from oneiros.data.clouds.table import XYZ, TableFile, as_table, new_values, replaced
from oneiros.disk import map_array

MOST_COLUMNS = 10_000  # each has a name, and a file without rows may promise any number


class NpyFile(TableFile):
    """An npy file, mapped: a structured array (N,), or numbers (N, C >= 3) whose further columns are column_3, ..."""

    def __init__(self, path: Path) -> None:
        self._table = _open(path)
        self.format = "npy"
        super().__init__(path, len(self._table), self._table.dtype)

    def rows(self, sizes: Iterable[int]) -> Iterator[np.ndarray]:
        start = 0
        for size in sizes:
            yield self._table[start : start + size]
            start += size


def write_npy_labels(file: NpyFile, out: Path, parts: Iterable[LabelPart], names: Sequence[str]) -> None:
    """Copy a file to `out` with other classes, and a float32 field for each of `names`."""
    none = new_values(file.dtype, np.empty(0, int), np.empty((0, len(names))), names, file.path)
    dtype = replaced(np.empty(0, file.dtype), none).dtype
    with rewriting(out) as target:
        _write_header(target, dtype, file.num_points)
        start = 0
        for labels, probabilities in parts:
            rows = file._table[start : start + len(labels)]
            target.write(replaced(rows, new_values(file.dtype, labels, probabilities, names, file.path)).tobytes())
            start += len(labels)


def write_npy(path: Path, cloud: Cloud) -> None:
    """A structured array: x, y, z in float64 and every attribute."""
    table = as_table(cloud)
    with rewriting(path) as file:
        _write_header(file, table.dtype, len(table))
        file.write(table.tobytes())


def _open(path: Path) -> np.ndarray:
    table = map_array(path)
    if table.dtype.names is not None and table.ndim == 1:
        return table
    if table.dtype.kind not in "fiu" or table.ndim != 2 or not 3 <= table.shape[1] <= MOST_COLUMNS:
        raise ValueError(
            f"{path}: is an array of {table.dtype} and shape {table.shape}; "
            f"a cloud is (N, 3 to {MOST_COLUMNS}) numbers or (N,) rows with fields x, y, z"
        )
    names = [*XYZ, *(f"column_{index}" for index in range(3, table.shape[1]))]
    return np.ascontiguousarray(table).view([(name, table.dtype) for name in names]).reshape(-1)


def _write_header(file: BinaryIO, dtype: np.dtype, num_rows: int) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (num_rows,)})


def read_npz(path: Path) -> np.ndarray:
    """The arrays as one table. xyz, points or pos (N, 3) stand for x, y, z. ValueError for arrays of other lengths."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:  # whatever a damaged archive makes zipfile and numpy stumble over
        raise ValueError(f"{path}: cannot be read as npz ({error})") from error
    columns: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        if name in ("xyz", "points", "pos") and values.ndim == 2 and values.shape[1] == 3:
            columns |= dict(zip(XYZ, values.T, strict=True))
        elif values.ndim in (1, 2) and values.dtype.kind in "biuf":
            columns[name] = values
        else:
            raise ValueError(f"{path}: {name} is {values.dtype} of shape {values.shape}; attributes are (N,) numbers")
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"{path}: its arrays differ in length, or there is none: {sizes}")
    table = np.empty(next(iter(sizes.values())), [(name, each.dtype, each.shape[1:]) for name, each in columns.items()])
    for name, values in columns.items():
        table[name] = values
    return table


def write_npz_table(file: BinaryIO, table: np.ndarray) -> None:
    """An array for each field."""
    arrays: dict[str, Any] = {name: table[name] for name in table.dtype.names or ()}
    np.savez_compressed(file, **arrays)
