"""PLY files, text and binary: reading, labelling a copy, writing.

Points are the rows of the element `vertex`, or of the first that has x, y, z; other elements, and lists among the
properties of a text, are kept and not looked at.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from oneiros.data.clouds.cloud import Cloud
from oneiros.data.clouds.ply_header import LONGEST, PlyHeader, type_name
from oneiros.data.clouds.relabel import LabelPart, rewriting
from oneiros.data.clouds.table import TableFile, as_table, new_values, replaced


class PlyFile(TableFile):
    """A PLY file with points that have x, y, z; a binary one is mapped, a text read line by line."""

    def __init__(self, path: Path) -> None:
        self.header = PlyHeader.read(path)
        self.format = "PLY, text" if self.header.order == "text" else "PLY, binary"
        vertex = self.header.vertex
        super().__init__(path, vertex.count, vertex.dtype, self.header.class_names)
        size, is_text = path.stat().st_size, self.header.order == "text"
        if is_text:  # of each line a digit and its end
            needed = self.header.size + 2 * (self.header.start + vertex.count) - 1
        else:
            needed = self.header.start + vertex.count * self.dtype.itemsize
        if size < needed:
            raise ValueError(
                f"{path}: is cut off: {vertex.count:,} points are promised, which need "
                f"{'at least ' if is_text else ''}{needed:,} bytes; the file has {size:,}"
            )

    def rows(self, sizes: Iterable[int]) -> Iterator[np.ndarray]:
        return self._text_rows(sizes) if self.header.order == "text" else self._binary_rows(sizes)

    def _binary_rows(self, sizes: Iterable[int]) -> Iterator[np.ndarray]:
        with self.path.open("rb") as file:
            file.seek(self.header.start)
            for size in sizes:
                yield np.frombuffer(file.read(size * self.dtype.itemsize), self.dtype)

    def _text_rows(self, sizes: Iterable[int]) -> Iterator[np.ndarray]:
        with self.path.open("rb") as file:
            lines = self.lines(file)
            deque(islice(lines, self.header.start), maxlen=0)
            for size in sizes:
                yield self._parse(self.take(lines, size))

    def lines(self, file: BinaryIO) -> Iterator[bytes]:
        """The lines of a text file after its header; empty ones hold nothing."""
        file.seek(self.header.size)
        return (line for line in iter(partial(file.readline, LONGEST), b"") if line.strip())

    def take(self, lines: Iterator[bytes], size: int) -> list[bytes]:
        """The next lines. ValueError when there are not so many."""
        taken = [*islice(lines, size)]
        if len(taken) != size:
            raise ValueError(f"{self.path}: is cut off: {self.num_points:,} points are promised, not so many are there")
        return taken

    def _parse(self, lines: list[bytes]) -> np.ndarray:
        if not lines:  # numpy warns of those
            return np.empty(0, self.dtype)
        try:
            if self.header.vertex.lists:
                lines = [b" ".join([words[at] for at in self.places(words)]) for words in map(bytes.split, lines)]
            return np.loadtxt(lines, self.dtype, comments=None, ndmin=1, encoding="ascii")
        except (ValueError, IndexError) as error:
            raise ValueError(f"{self.path}: a point cannot be read ({error})") from error

    def places(self, words: Sequence[bytes]) -> list[int]:
        """Which words of a point's line are its fields."""
        return self.header.vertex.places(words)


def write_ply_labels(ply: PlyFile, out: Path, parts: Iterable[LabelPart], names: Sequence[str]) -> None:
    """Copy a file to `out` with other classes, and a float property for each of `names`."""
    none = new_values(ply.dtype, np.empty(0, int), np.empty((0, len(names))), names, ply.path)
    header = ply.header.with_fields(replaced(np.empty(0, ply.dtype), none).dtype)
    values = (new_values(ply.dtype, labels, probabilities, names, ply.path) for labels, probabilities in parts)
    with rewriting(out) as target, ply.path.open("rb") as file:
        target.write(b"".join(header.lines))
        if header.order == "text":
            _relabel_text(ply, file, target, values)
        else:
            _relabel_binary(ply, file, target, values)
        shutil.copyfileobj(file, target)


def _relabel_binary(ply: PlyFile, file: BinaryIO, target: BinaryIO, values: Iterable[Mapping[str, np.ndarray]]) -> None:
    """`file` ends after the points."""
    file.seek(ply.header.size)
    target.write(file.read(ply.header.start - ply.header.size))
    for columns in values:
        size = len(next(iter(columns.values())))
        rows = np.frombuffer(file.read(size * ply.dtype.itemsize), ply.dtype)
        target.write(replaced(rows, columns).tobytes())


def _relabel_text(ply: PlyFile, file: BinaryIO, target: BinaryIO, values: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Change words and leave all others as they are written, so that no digit is lost; `file` ends after the points."""
    fields = ply.dtype.names or ()
    lines = ply.lines(file)
    target.writelines(islice(lines, ply.header.start))
    for columns in values:
        rows = [*zip(*columns.values(), strict=True)]
        for line, row in zip(ply.take(lines, len(rows)), rows, strict=True):
            words = line.split()
            places = ply.places(words)
            for name, value in zip(columns, row, strict=True):
                place = places[fields.index(name)] if name in fields else len(words)
                words[place : place + 1] = [str(value).encode()]
            target.write(b" ".join(words) + b"\n")


def write_ply(path: Path, cloud: Cloud) -> None:
    """Binary little-endian: x, y, z as double and every attribute. ValueError for integers beyond 32 bits."""
    table = _narrowed(as_table(cloud), path)
    properties = [f"property {type_name(table.dtype[name])} {name}" for name in table.dtype.names or ()]
    classes = [f"comment class {number} {name}" for number, name in cloud.class_names.items()]
    points = [f"element vertex {len(table)}", *properties]
    lines = ["ply", "format binary_little_endian 1.0", *classes, *points, "end_header", ""]
    with rewriting(path) as file:
        file.write("\n".join(lines).encode())
        file.write(table.tobytes())


def _narrowed(table: np.ndarray, path: Path) -> np.ndarray:
    """PLY knows no 64-bit integers and no bools: the same values in 32 bits and in bytes."""
    narrow = {"i8": "<i4", "u8": "<u4", "b1": "u1"}
    fields = [(name, narrow.get(table.dtype[name].str[1:], table.dtype[name].str)) for name in table.dtype.names or ()]
    converted = table.astype(fields)
    for name, _ in fields:
        if table.dtype[name].kind in "iu" and (converted[name] != table[name]).any():
            raise ValueError(f"{path}: {name} has values beyond 32 bits, which PLY cannot hold")
    return converted
