"""PCD files of the Point Cloud Library: text, binary, binary compressed. Source: the PCD format, version 0.7."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from oneiros.ops.compiled import compiled

_KINDS = {"F": "f", "I": "i", "U": "u"}
_LONGEST, _LARGEST = 100_000, 2**34  # bytes of a line of the header, and of points
_ENTRIES = ("FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "POINTS", "VIEWPOINT", "DATA")


def read_pcd(path: Path) -> tuple[str, np.ndarray, Any]:
    """The format in words, the table, and what writes one like it: text as text, else binary. ValueError for a damaged
    file."""
    with path.open("rb") as file:
        header = _header(path, file)
        try:
            dtype, count = _dtype(header), int(header["POINTS"][0] if "POINTS" in header else header["WIDTH"][0])
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"{path}: is no PCD file that can be read: its header is damaged ({error})") from error
        kind = header["DATA"][0].lower()
        if not 0 <= count * dtype.itemsize < _LARGEST:
            raise ValueError(f"{path}: promises {count:,} points of {dtype.itemsize} bytes")
        table = _points(path, file, kind, dtype, count)
    view = " ".join(header.get("VIEWPOINT", ()))
    return f"PCD, {kind}", table, partial(write_pcd_table, text=kind == "ascii", viewpoint=view)


def write_pcd_table(file: BinaryIO, table: np.ndarray, *, text: bool = False, viewpoint: str = "") -> None:
    """Version 0.7, one row of points."""
    fields = [(name, table.dtype[name]) for name in table.dtype.names or ()]
    kinds = {"f": "F", "i": "I", "u": "U", "b": "U"}
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(name for name, _ in fields),
        "SIZE": " ".join(str(kind.base.itemsize) for _, kind in fields),
        "TYPE": " ".join(kinds[kind.base.kind] for _, kind in fields),
        "COUNT": " ".join(str(int(np.prod(kind.shape, dtype=int))) for _, kind in fields),
        "WIDTH": str(len(table)),
        "HEIGHT": "1",
        "VIEWPOINT": viewpoint or "0 0 0 1 0 0 0",
        "POINTS": str(len(table)),
        "DATA": "ascii" if text else "binary",
    }
    file.write("".join(f"{key} {value}\n" for key, value in lines.items()).encode())
    if not text:
        file.write(table.astype(table.dtype.newbyteorder("<")).tobytes())
        return
    for row in table:
        words = (str(word) for value in row for word in np.ravel(value).tolist())
        file.write((" ".join(words) + "\n").encode())


def _header(path: Path, file: BinaryIO) -> dict[str, Sequence[str]]:
    found: dict[str, Sequence[str]] = {}
    while "DATA" not in found:
        line = file.readline(_LONGEST)
        if not line.endswith(b"\n"):
            raise ValueError(f"{path}: is no PCD file: it has no line DATA")
        key, *words = line.decode("ascii", "replace").split() or ["#"]
        if key in _ENTRIES:
            found[key] = words
    return found


def _dtype(header: dict[str, Sequence[str]]) -> np.dtype:
    names, sizes, kinds = header["FIELDS"], header["SIZE"], header["TYPE"]
    counts = header.get("COUNT", ["1"] * len(names))
    fields, padding = [], 0
    for name, size, kind, count in zip(names, sizes, kinds, counts, strict=True):
        if name == "_":  # padding; several may have that name
            name, padding = f"_{padding}", padding + 1
        fields.append((name, f"<{_KINDS[kind]}{int(size)}", *([(int(count),)] if int(count) != 1 else [])))
    return np.dtype(fields)


def _points(path: Path, file: BinaryIO, kind: str, dtype: np.dtype, count: int) -> np.ndarray:
    try:
        if kind == "ascii":
            return np.loadtxt(file, dtype, max_rows=count, ndmin=1) if count else np.empty(0, dtype)
        if kind == "binary":
            return np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
        if kind != "binary_compressed":
            raise ValueError(f"its DATA is {kind}")
        packed, plain = np.frombuffer(file.read(8), "<u4").tolist()
        if plain != count * dtype.itemsize:
            raise ValueError(f"{plain:,} bytes for {count:,} points of {dtype.itemsize}")
        content = np.frombuffer(file.read(packed), np.uint8)
        unpacked = np.zeros(plain, np.uint8)
        if len(content) != packed or not _unpack(content, unpacked):
            raise ValueError("its compressed points are damaged")
    except ValueError as error:
        raise ValueError(f"{path}: is damaged or cut off ({error})") from error
    table, start = np.empty(count, dtype), 0  # field after field
    for name in dtype.names or ():
        size = count * dtype[name].itemsize
        table[name] = np.frombuffer(unpacked[start : start + size].tobytes(), dtype[name], count)
        start += size
    return table


@compiled
def _unpack(content: np.ndarray, out: np.ndarray) -> bool:
    """LZF: a byte below 32 is followed by so many plain bytes and one more; else it says how many to repeat from where.
    False where it does not fill `out`."""
    read, written = 0, 0
    while read < len(content):
        control = int(content[read])
        read += 1
        if control < 32:
            length = control + 1
            if read + length > len(content) or written + length > len(out):
                return False
            for _ in range(length):
                out[written] = content[read]
                read += 1
                written += 1
            continue
        length = control >> 5
        if length == 7:
            if read >= len(content):
                return False
            length += int(content[read])
            read += 1
        if read >= len(content):
            return False
        place = written - ((control & 31) << 8) - int(content[read]) - 1
        read += 1
        if place < 0 or written + length + 2 > len(out):
            return False
        for _ in range(length + 2):
            out[written] = out[place]
            written += 1
            place += 1
    return written == len(out)
