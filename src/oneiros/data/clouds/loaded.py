"""Clouds whose files are read whole: text (xyz, txt, csv), npz, PCD, E57. In memory they are tables of named fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from oneiros.data.clouds.cloud import Cloud
from oneiros.data.clouds.relabel import COPIES, LabelPart, rewriting
from oneiros.data.clouds.table import TableFile, as_table, new_values, replaced

Writer = Callable[[BinaryIO, np.ndarray], None]


class LoadedFile(TableFile):
    """A table in memory. write: puts a table of the same fields, or more, into a file of this format."""

    def __init__(self, path: Path, form: str, table: np.ndarray, write: Writer) -> None:
        self.format, self.table, self.write = form, table, write
        super().__init__(path, len(table), table.dtype)

    def rows(self, sizes: Iterable[int]) -> Iterator[np.ndarray]:
        start = 0
        for size in sizes:
            yield self.table[start : start + size]
            start += size


def open_loaded(path: Path, columns: str = "") -> LoadedFile:
    """ValueError for a file that is damaged. columns: of a text, see `text.read_text`."""
    if path.suffix.lower() == ".e57":
        from oneiros.data.clouds.e57 import read_e57

        table, crs, unit = read_e57(path)
        file = LoadedFile(path, "E57", table, _no_writer)
        file.crs, file.unit = crs, unit
        return file
    if path.suffix.lower() == ".pcd":
        from oneiros.data.clouds.pcd import read_pcd

        return LoadedFile(path, *read_pcd(path))
    if path.suffix.lower() == ".npz":
        from oneiros.data.clouds.npy import read_npz, write_npz_table

        return LoadedFile(path, "npz", read_npz(path), write_npz_table)
    from oneiros.data.clouds.text import read_text

    return LoadedFile(path, "text", *read_text(path, columns))


def _no_writer(file: BinaryIO, table: np.ndarray) -> None:
    raise ValueError("E57 is not written")


def write_loaded_labels(file: LoadedFile, out: Path, parts: Iterable[LabelPart], names: Sequence[str]) -> None:
    """Copy a file to `out` with other classes, and a float32 field for each of `names`; a format of `COPIES` as LAZ."""
    labels, probabilities = zip(*parts, strict=True) if file.num_points else ((np.empty(0, int),), (np.empty((0, 0)),))
    rows = np.concatenate(probabilities).reshape(file.num_points, len(names))
    values = new_values(file.dtype, np.concatenate(labels), rows, names, file.path)
    if file.path.suffix.lower() in COPIES:
        from oneiros.data.clouds.las.writer import write_las

        cloud = file.read()
        write_las(out, replace(cloud, attributes={**cloud.attributes, **values}), compress=True)
        return
    with rewriting(out) as target:
        file.write(target, replaced(file.table, values))


def write_loaded(path: Path, cloud: Cloud) -> None:
    """A new file in the format that the name ends in."""
    ending = path.suffix.lower()
    if ending in COPIES:
        raise ValueError(f"{path}: {ending} has no place for classes and is not written; write {COPIES[ending]}")
    if ending == ".pcd":
        from oneiros.data.clouds.pcd import write_pcd_table as write
    elif ending == ".npz":
        from oneiros.data.clouds.npy import write_npz_table as write
    else:
        from functools import partial

        from oneiros.data.clouds.text import write_text_table

        write = partial(write_text_table, delimiter="," if ending == ".csv" else " ")
    with rewriting(path) as target:
        write(target, as_table(cloud))
