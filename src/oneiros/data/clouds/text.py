"""Clouds as lines of numbers (xyz, txt, csv), parted by commas, semicolons, tabs or blanks.

A first line of words names the columns, after `#` or `//` too; else the first three are x, y, z, the rest column_3, ...
"""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from oneiros.data.clouds.table import XYZ

_MARKS = ("#", "//")
_LONGEST = 1000  # columns


def read_text(path: Path, called: str = "") -> tuple[np.ndarray, Any]:
    """The table, whole numbers as such, and what writes one with the same delimiter. ValueError for what is no table of
    numbers.

    called: the columns' names, parted by commas, such as x,y,z,intensity,class; - for one that is left out of view but
        kept.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text ({error})") from error
    names: list[str] = []
    while lines and (not lines[0].strip() or not _is_numbers(lines[0])):
        words = _words(lines.pop(0))
        names = words if len(words) >= len(XYZ) else names
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith(_MARKS)]
    delimiter = _delimiter(lines[0] if lines else "")
    columns = len(_words(lines[0])) if lines else len(names)
    if called:
        names = _called(path, called, columns)
    names = names if len(names) == columns else [*XYZ, *(f"column_{number}" for number in range(3, columns))]
    if not len(XYZ) <= columns <= _LONGEST or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: its lines hold {columns} numbers; a cloud needs x, y, z, each column a name of its own"
        )
    try:
        values = np.loadtxt(lines, delimiter=delimiter, ndmin=2) if lines else np.empty((0, columns))
    except ValueError as error:
        raise ValueError(f"{path}: a line cannot be read as {columns} numbers ({error})") from error
    table = np.empty(len(values), [(name.lower() if name.lower() in XYZ else name, "f8") for name in names])
    for name, column in zip(table.dtype.names or (), values.T, strict=True):
        table[name] = column
    return _narrowed(table), partial(write_text_table, delimiter=delimiter or " ")


def _called(path: Path, called: str, columns: int) -> list[str]:
    names = [name.strip() or "-" for name in called.split(",")]
    if len(names) != columns:
        raise ValueError(f"{path}: its lines hold {columns} numbers; --columns names {len(names)} ({called})")
    names = [f"column_{number}" if name == "-" else name for number, name in enumerate(names)]
    if missing := [axis for axis in XYZ if axis not in map(str.lower, names)]:
        raise ValueError(f"--columns {called}: names no {', '.join(missing)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--columns {called}: names {twice[0]} twice")
    return names


def write_text_table(file: BinaryIO, table: np.ndarray, *, delimiter: str = " ") -> None:
    """A line of names, then a line for each point; floats as short as they come back, coordinates without exponents."""
    names = table.dtype.names or ()
    text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
    text.write(delimiter.join(names) + "\n")
    for row in table:
        text.write(delimiter.join(_said(name, value) for name, value in zip(names, row, strict=True)) + "\n")
    text.detach()


def _said(name: str, value: Any) -> str:
    if name in XYZ:
        return np.format_float_positional(value, trim="-")
    return str(value)


def _is_numbers(line: str) -> bool:
    try:
        return bool([float(word) for word in _words(line)]) and not line.lstrip().startswith(_MARKS)
    except ValueError:
        return False


def _words(line: str) -> list[str]:
    line = line.strip().lstrip("#/").strip()
    delimiter = _delimiter(line)
    return [word.strip().strip('"') for word in (line.split(delimiter) if delimiter else line.split())]


def _delimiter(line: str) -> str | None:
    return next((mark for mark in (";", ",", "\t") if mark in line), None)


def _narrowed(table: np.ndarray) -> np.ndarray:
    """Columns of whole numbers, but for coordinates, as integers."""
    whole = {
        name: bool(len(table)) and name not in XYZ and bool((np.abs(table[name]) < 2**31).all())
        and bool((table[name] == np.floor(table[name])).all())
        for name in table.dtype.names or ()
    }  # fmt: skip
    return table.astype([(name, "i4" if narrow else "f8") for name, narrow in whole.items()])
