"""The header of a PLY file. Source: G. Turk, "The PLY Polygon File Format" (1994)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
_TYPES |= {"float": "f4", "double": "f8"}
_NAMES = {code: name for name, code in _TYPES.items()}
_TYPES |= {"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"}
_TYPES |= {"float32": "f4", "float64": "f8"}
_ORDERS = {"ascii": "text", "binary_little_endian": "<", "binary_big_endian": ">"}
LONGEST = 100_000  # bytes of a line; binary data that passes for a header has no line ends
_LARGEST = 10_000_000  # bytes of a header


@dataclass
class Element:
    """fields: name and type of each property that is no list. lists: where among the properties those are, which have
    no fixed size.

    end: the number of the header's line after the last that speaks of it.
    """

    name: str
    count: int
    end: int
    fields: list[tuple[str, str]] = field(default_factory=list)
    lists: list[int] = field(default_factory=list)

    def places(self, words: Sequence[bytes]) -> list[int]:
        """Which words of a row in text are its fields, in their order. IndexError, ValueError where the row is none."""
        if not self.lists:
            return [*range(len(self.fields))]
        found, at = [], 0
        for number in range(len(self.fields) + len(self.lists)):
            if number in self.lists:
                at += int(words[at])
            else:
                found.append(at)
            at += 1
        return found

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.fields)


@dataclass(frozen=True)
class PlyHeader:
    """lines: as they stand in the file. order: `text`, or the byte order `<` or `>`. elements: in the file's order."""

    lines: tuple[bytes, ...]
    order: str
    elements: tuple[Element, ...]

    @classmethod
    def read(cls, path: Path) -> PlyHeader:
        """ValueError when the file is no PLY, or has no element `vertex` whose place can be told."""
        with path.open("rb") as file:
            lines = tuple(_lines(path, file))
        try:
            header = _parse(lines)
        except (ValueError, KeyError, IndexError, StopIteration) as error:
            raise ValueError(f"{path}: its PLY header cannot be understood ({error})") from error
        if any(element.count < 0 for element in header.elements):
            raise ValueError(f"{path}: promises fewer than no rows of an element")
        before = header.elements[: header.elements.index(header.vertex)]
        if header.order != "text" and any(element.lists for element in (*before, header.vertex)):
            raise ValueError(f"{path}: has lists among or before its points; in a binary file only numbers can be read")
        return header

    @property
    def vertex(self) -> Element:
        """The points: the element `vertex`, else the first that has x, y, z."""
        named = [element for element in self.elements if element.name == "vertex"]
        placed = [element for element in self.elements if {"x", "y", "z"} <= {name for name, _ in element.fields}]
        return (named + placed)[0]

    @property
    def start(self) -> int:
        """Where the points begin: their first byte, or the number of their first line after the header for text."""
        before = self.elements[: self.elements.index(self.vertex)]
        if self.order == "text":
            return sum(element.count for element in before)
        return self.size + sum(element.count * element.dtype.itemsize for element in before)

    @property
    def class_names(self) -> dict[int, str]:
        """From our own comments, one a class: `comment class 3 Self`."""
        words = [line.decode("ascii", "replace").split(maxsplit=3) for line in self.lines]
        return {
            int(w[2]): w[3].strip() for w in words if len(w) == 4 and w[:2] == ["comment", "class"] and w[2].isdigit()
        }

    @property
    def size(self) -> int:
        """Bytes of the header."""
        return sum(map(len, self.lines))

    def with_fields(self, dtype: np.dtype) -> PlyHeader:
        """The same with points of these fields, the first of which are those it has."""
        end = b"\r\n" if self.lines[0].endswith(b"\r\n") else b"\n"
        new = (dtype.names or ())[len(self.vertex.fields) :]
        lines = [f"property {type_name(dtype[name])} {name}".encode() + end for name in new]
        return replace(self, lines=(*self.lines[: self.vertex.end], *lines, *self.lines[self.vertex.end :]))


def type_name(dtype: np.dtype) -> str:
    """What PLY calls a type of numbers; KeyError for those it does not have."""
    return _NAMES[dtype.newbyteorder("=").str[1:]]


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    line, size = file.readline(LONGEST), 0
    if line.strip() != b"ply":
        raise ValueError(f"{path}: is no PLY file: it does not begin with the line 'ply'")
    while line.strip() != b"end_header":
        yield line
        size += len(line)
        line = file.readline(LONGEST)
        if not line.endswith(b"\n") or size > _LARGEST:
            raise ValueError(f"{path}: is cut off: its header does not end")
    yield line


def _parse(lines: tuple[bytes, ...]) -> PlyHeader:
    order, elements = "", []
    for number, line in enumerate(lines, 1):
        match line.decode("ascii", "replace").split():
            case ["format", name, *_]:
                order = _ORDERS[name]
            case ["element", name, count]:
                elements.append(Element(name, int(count), number))
            case ["property", "list", _, _, _]:
                elements[-1].lists.append(len(elements[-1].lists) + len(elements[-1].fields))
                elements[-1].end = number
            case ["property", kind, name]:
                prefix = "<" if order == "text" else order
                elements[-1].fields.append((name, prefix + _TYPES[kind]))
                elements[-1].end = number
            case ["ply"] | ["comment", *_] | ["obj_info", *_] | ["end_header"] | []:
                pass
            case words:
                said = " ".join(words)[:80]
                why = "; a name has no blanks" if words[0] == "property" and len(words) > 3 else ""
                raise ValueError(f"line {number}, {said!r}, is none of PLY's{why}")
    for element in elements:
        if len({name for name, _ in element.fields}) < len(element.fields):
            raise ValueError(f"two properties of {element.name} have the same name")
    header = PlyHeader(lines, order, tuple(elements))
    try:
        found = header.vertex
    except IndexError:
        found = None
    if not order or found is None:
        there = ", ".join(element.name for element in elements) or "none"
        raise ValueError(f"it names no format, or has no element vertex nor another with x, y, z; elements: {there}")
    return header
